// Runs vectors through the scripts as their platforms would; prints the verdicts as JSON. Started by test_functions.py.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import vm from 'node:vm';

const [folder, vectorFile] = process.argv.slice(2);
const { now, denied: list, keys, cases } = JSON.parse(readFileSync(vectorFile, 'utf8'));
const denied = Object.fromEntries(list.map((id) => [id, 1]));
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];
const told = { 200: 'good', 404: 'refused', 410: 'gone' };

class Then extends Date {
  static now() {
    return now * 1000;
  }
}

function cloudfront(config) {
  const source = readFileSync(`${folder}/cloudfront.js`, 'utf8');
  const deployed = source.replace(/^const CONFIG = .*; \/\/ deployed$/m, `const CONFIG = ${JSON.stringify(config)};`);
  const context = vm.createContext({ require: createRequire(import.meta.url), Buffer, Date: Then });
  vm.runInContext(deployed, context);
  return (path, method = 'GET') => {
    const [uri, ...rest] = path.split('?');
    const query = path.includes('?') ? rest.join('?') : undefined;
    return context.handler({ request: { method, uri, rawQueryString: () => query } });
  };
}

const worker = await import(`${folder}/worker.mjs`);
globalThis.Date = Then;
let asked = [];
globalThis.fetch = async (url, { method }) => {
  asked.push(method);
  return new Response('', { status: 200 });
};
const env = { KEYS: JSON.stringify(keys), DENIED: JSON.stringify(denied), UPSTREAM: 'http://node' };

// As the platform does it: the URL is parsed first, and what is no URL reaches nobody.
async function throughWorker(path) {
  const base = 'https://edge.example';
  if (!path.startsWith('/') || !URL.canParse(base + path)) {
    return { status: 'refused', target: path };
  }
  const { href } = new URL(base + path);
  const answer = await worker.default.fetch({ url: href, method: 'GET', headers: {} }, env);
  return { status: told[answer.status], target: href.slice(base.length) };
}

const atCloudfront = cloudfront({ keys, denied });
const unconfigured = cloudfront({ keys: {}, denied: {} });
const results = [];
const verdict = (answer) => told[answer.statusCode ?? 200];
for (const { path } of cases) {
  results.push({
    cloudfront: verdict(atCloudfront(path)),
    unconfigured: verdict(unconfigured(path)),
    verdict: await worker.verdict(path, now, keys, denied),
    worker: await throughWorker(path),
  });
}

// What becomes of each method for a path: status, the Allow field, and the method that is passed on.
async function methods(path) {
  const found = {};
  for (const method of METHODS) {
    const at = atCloudfront(path, method);
    asked = [];
    const worked = await worker.default.fetch({ url: `https://edge.example${path}`, method, headers: {} }, env);
    found[method] = {
      cloudfront: [at.statusCode ?? 200, at.headers?.allow?.value ?? null, at.method ?? null],
      worker: [worked.status, worked.headers.get('allow'), asked.pop() ?? null],
    };
  }
  return found;
}

const good = cases.find((one) => one.verdict === 'good').path;
console.log(JSON.stringify({ cases: results, good: await methods(good), refused: await methods(`${good}?`) }));
