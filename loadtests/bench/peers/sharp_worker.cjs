// sharp making each output from the file it is given by a call of its own, on one libvips thread.
const fs = require("node:fs");
const readline = require("node:readline");
const sharp = require("sharp");

sharp.cache(false);
sharp.concurrency(1);
const files = new Map();

async function picture(raw, [width, height], quality, chromaSubsampling) {
  const image = sharp(raw, { limitInputPixels: false }).rotate().resize(width, height, { fit: "fill" });
  return (await image.withIccProfile("srgb").jpeg({ quality, chromaSubsampling }).toBuffer()).length;
}

async function work(job) {
  if (!files.has(job.file)) files.set(job.file, fs.readFileSync(job.file));
  const raw = files.get(job.file);
  const start = process.hrtime.bigint();
  const cpu = process.cpuUsage();
  let bytes = 0;
  if (job.do === "ingest") {
    bytes = await picture(raw, job.ancestor, 90, "4:2:0");
    for (const size of job.rungs) bytes += await picture(raw, size, 80, "4:2:0");
  } else {
    bytes = await picture(raw, job.size, 80, "4:2:0");
  }
  const wall_ms = Number(process.hrtime.bigint() - start) / 1e6;
  const used = process.cpuUsage(cpu);
  const peak = /VmHWM:\s+(\d+)/.exec(fs.readFileSync("/proc/self/status", "utf8"))[1];
  return { wall_ms, cpu_ms: (used.user + used.system) / 1000, bytes, peak_mb: Math.round(peak / 1024) };
}

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await work(JSON.parse(line))));
  }
})();
