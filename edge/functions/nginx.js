// Signed paths for nginx (njs 0.7.9 or newer): the same verdicts as imagecore/signing.py, held by vectors.json.
//
// Everything that is kept between requests is in nginx.conf's maps (njs begins anew at every request): the key of the
// path's key id comes in $tirage_hmac; revoked shares, withdrawn pictures and erased assets are looked up there
// afterwards. A key that is absent or malformed refuses.

import crypto from 'crypto';

const PATH = new RegExp(
  '^(/(?:e/([a-z0-9]{1,8})/([1-9][0-9]{9})|s/([a-z0-9]{1,8})/(shr_[a-z0-9]{26})|d/([a-z0-9]{1,8}))' +
  '/([a-z]{3}_[a-z0-9]{26})/([a-z0-9._]{16,160})/)([0-9a-f]{32})\\.(jpg|webp|avif)$');
const KEY = /^[0-9a-f]{64}$/;
const MAX_PATH = 400;
const YEAR_S = 31536000;
const SHARE_S = 300;

// Takes the same time wherever two texts of one length differ.
function equal(one, other) {
  let difference = one.length ^ other.length;
  for (let at = 0; at < one.length; at++) {
    difference |= one.charCodeAt(at) ^ other.charCodeAt(at);
  }
  return difference === 0;
}

// "refused", or "VERDICT|CACHE-CONTROL|ASSET|SUBJECT|KEY" for nginx.conf's maps: SUBJECT is the share, or the public
// picture, that can be denied beside the asset. Looks at the target's bytes as they came: nginx drops the authority of an
// absolute form from $request_uri, and blanks, so the line is put together again.
function verify(r) {
  const target = r.variables.request_uri;
  const isWhole = r.variables.request === [r.method, target, r.variables.server_protocol].join(' ');
  const found = isWhole && target.length <= MAX_PATH ? PATH.exec(target) : null;
  if (found === null) {
    return 'refused';
  }
  const lifetime = found[1][1];
  const key = r.variables.tirage_hmac;
  if (!KEY.test(key)) {
    return 'refused';
  }
  const tag = crypto.createHmac('sha256', Buffer.from(key, 'hex')).update(found[1] + '.' + found[10]).digest('hex');
  if (!equal(tag.slice(0, 32), found[9])) {
    return 'refused';
  }
  const left = lifetime === 'e' ? Number(found[3]) - Math.floor(Date.now() / 1000) : YEAR_S;
  const kept = {
    e: 'private, max-age=' + left + ', immutable',
    s: 'public, max-age=' + SHARE_S,
    d: 'public, max-age=' + YEAR_S + ', immutable',
  }[lifetime];
  const subject = found[5] || (lifetime === 'd' ? 'pic_' + found[7].slice(4) : '-');
  const verdict = left > 0 ? 'good' : 'expired';
  return [verdict, kept, found[7], subject, found[7] + '/' + found[8] + '.' + found[10]].join('|');
}

// Takes back a picture's headers from a 416: nginx sees that a range is none after it has added them, and adds its
// refusal's beside them.
function withdraw(r) {
  if (r.status === 416) {
    Object.keys(r.headersOut).filter((name) => !name.startsWith('Content-')).forEach((name) => delete r.headersOut[name]);
  }
}

export default { verify, withdraw };
