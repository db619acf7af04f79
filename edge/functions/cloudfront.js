// Signed paths for CloudFront Functions (viewer request, JavaScript runtime 2.0): the same verdicts as
// imagecore/signing.py, held by vectors.json. Deployment replaces the next line's object: keys as {"e.u1": "<64 hex>"},
// denied as {"shr_…": 1, "pic_…": 1, "ast_…": 1}. A function without keys refuses everything.
const CONFIG = {"keys": {}, "denied": {}}; // deployed
const crypto = require('crypto');

const PATH = new RegExp(
  '^(/(?:e/([a-z0-9]{1,8})/([1-9][0-9]{9})|s/([a-z0-9]{1,8})/(shr_[a-z0-9]{26})|d/([a-z0-9]{1,8}))' +
  '/([a-z]{3}_[a-z0-9]{26})/([a-z0-9._]{16,160})/)([0-9a-f]{32})\\.(jpg|webp|avif)$');

// Takes the same time wherever two texts of one length differ.
function equal(one, other) {
  let difference = one.length ^ other.length;
  for (let at = 0; at < one.length; at++) {
    difference |= one.charCodeAt(at) ^ other.charCodeAt(at);
  }
  return difference === 0;
}

function verdict(path, now) {
  const found = path.length <= 400 ? PATH.exec(path) : null;
  const key = found && CONFIG.keys[found[1][1] + '.' + (found[2] || found[4] || found[6])];
  if (!key) {
    return 'refused';
  }
  const tag = crypto.createHmac('sha256', Buffer.from(key, 'hex')).update(found[1] + '.' + found[10]).digest('hex');
  if (!equal(tag.slice(0, 32), found[9])) {
    return 'refused';
  }
  if (found[3] && Number(found[3]) <= now) {
    return 'expired';
  }
  if (found[5] && CONFIG.denied[found[5]]) {
    return 'revoked';
  }
  if (found[6] && CONFIG.denied['pic_' + found[7].slice(4)]) {
    return 'withdrawn';
  }
  return CONFIG.denied[found[7]] ? 'erased' : 'good';
}

function handler(event) {
  const request = event.request;
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    return {statusCode: 405, statusDescription: 'Method Not Allowed', headers: {allow: {value: 'GET, HEAD'}}};
  }
  // undefined only where there is no "?" at all; a spelling with one is another spelling.
  const path = request.rawQueryString() === undefined ? request.uri : '?';
  const told = verdict(path, Math.floor(Date.now() / 1000));
  if (told === 'good') {
    return request;
  }
  return {
    statusCode: told === 'refused' ? 404 : 410,
    statusDescription: told === 'refused' ? 'Not Found' : 'Gone',
    headers: {'cache-control': {value: 'max-age=60'}},
  };
}
