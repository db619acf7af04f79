// Signed paths for a Worker (fetch handler, Web Crypto): the same verdicts as imagecore/signing.py, held by
// vectors.json. Bindings: KEYS, JSON {"e.u1": "<64 hex>"}; DENIED, JSON {"shr_…": 1, "pic_…": 1, "ast_…": 1}; UPSTREAM, a
// node's URL.
// A Worker sees a URL after the platform has parsed it: dot segments are already resolved there, nothing else is.

const PATH = new RegExp(
  '^(/(?:e/([a-z0-9]{1,8})/([1-9][0-9]{9})|s/([a-z0-9]{1,8})/(shr_[a-z0-9]{26})|d/([a-z0-9]{1,8}))' +
  '/([a-z]{3}_[a-z0-9]{26})/([a-z0-9._]{16,160})/)([0-9a-f]{32})\\.(jpg|webp|avif)$');

function bytes(hex) {
  return Uint8Array.from(hex.match(/../g), (two) => parseInt(two, 16));
}

export async function verdict(target, now, keys, denied) {
  const found = target.length <= 400 ? PATH.exec(target) : null;
  const hex = found && keys[`${found[1][1]}.${found[2] || found[4] || found[6]}`];
  if (!hex) {
    return 'refused';
  }
  const algorithm = { name: 'HMAC', hash: 'SHA-256' };
  const key = await crypto.subtle.importKey('raw', bytes(hex), algorithm, false, ['sign']);
  const whole = new Uint8Array(await crypto.subtle.sign('HMAC', key, new TextEncoder().encode(`${found[1]}.${found[10]}`)));
  // The tag is half of the MAC, so `subtle.verify` cannot be used; this takes the same time wherever they differ.
  const difference = bytes(found[9]).reduce((sum, byte, at) => sum | (byte ^ whole[at]), 0);
  if (difference !== 0) {
    return 'refused';
  }
  if (found[3] && Number(found[3]) <= now) {
    return 'expired';
  }
  if (found[5] && denied[found[5]]) {
    return 'revoked';
  }
  if (found[6] && denied[`pic_${found[7].slice(4)}`]) {
    return 'withdrawn';
  }
  return denied[found[7]] ? 'erased' : 'good';
}

export default {
  async fetch(request, env) {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return new Response('method-not-allowed\n', { status: 405, headers: { allow: 'GET, HEAD' } });
    }
    // The text after the host, not `pathname`: "?" and "#" must count.
    const target = request.url.slice(new URL(request.url).origin.length);
    const keys = JSON.parse(env.KEYS);
    const told = await verdict(target, Math.floor(Date.now() / 1000), keys, JSON.parse(env.DENIED));
    if (told === 'good') {
      return fetch(env.UPSTREAM + target, { method: request.method, headers: request.headers });
    }
    const status = told === 'refused' ? 404 : 410;
    return new Response(`${told}\n`, { status, headers: { 'cache-control': 'max-age=60' } });
  },
};
