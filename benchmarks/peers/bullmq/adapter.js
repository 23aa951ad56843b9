'use strict';
// BullMQ on ioredis. The same command line as benchmarks/peer_side/benchmark_peer.py, which documents it.

const dgram = require('node:dgram');
const fs = require('node:fs');
const { performance } = require('node:perf_hooks');
const { createRequire } = require('node:module');

// The packages are installed beside the environments, not beside this file.
const requireInstalled = createRequire(process.env.BENCH_MODULES + '/');
const { FlowProducer, Queue, QueueEvents, Worker } = requireInstalled('bullmq');

const BULK_CHUNK = 1000;
const GATHER_CHUNK = 500;
const WARM_UP_JOBS = 5;
const MARK_EVERY = 1000;
const QUEUE_NAME = 'bench';

const redisUrl = new URL(process.env.BENCH_REDIS_URL);
const connection = { host: redisUrl.hostname, port: Number(redisUrl.port), maxRetriesPerRequest: null };

// Date.now() has milliseconds only. The monotonic clock is the host's, so producer and worker read the same one.
const nowNs = () => process.hrtime.bigint();
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function work(concurrency, expected) {
  const answers = dgram.createSocket('udp4');
  const marks = [];
  let jobs = 0;
  const processor = async (job) => {
    if (job.name === 'stamp') {
      answers.send(String(nowNs()), job.data.port, '127.0.0.1');
      return job.data.port;
    }
    if (job.name === 'body') return Object.keys(await job.getChildrenValues()).length;
    jobs += 1;
    if (jobs % MARK_EVERY === 1 || jobs === expected) {
      marks.push(nowNs());
      if (jobs === expected) writeMarker(expected, marks);
    }
    return job.data;
  };
  const worker = new Worker(QUEUE_NAME, processor, { connection, concurrency });
  worker.on('error', (error) => console.error(error));
  process.on('SIGTERM', () => worker.close().then(() => process.exit(0)));
}

function writeMarker(expected, marks) {
  const numbers = marks.map((mark) => String(mark)).join(',');
  const content = `{"jobs":${expected},"first_ns":${marks[0]},"last_ns":${marks[marks.length - 1]},"marks_ns":[${numbers}]}`;
  const unfinished = process.env.BENCH_MARKER + '.unfinished';
  fs.writeFileSync(unfinished, content);
  fs.renameSync(unfinished, process.env.BENCH_MARKER);
}

const ways = {
  async bulk(queue, count) {
    for (let start = 0; start < count; start += BULK_CHUNK) {
      const length = Math.min(BULK_CHUNK, count - start);
      await queue.addBulk(Array.from({ length }, () => ({ name: 'noop', data: 1 })));
    }
  },
  async gather(queue, count) {
    for (let start = 0; start < count; start += GATHER_CHUNK) {
      const length = Math.min(GATHER_CHUNK, count - start);
      await Promise.all(Array.from({ length }, () => queue.add('noop', 1)));
    }
  },
  async sequential(queue, count) {
    for (let i = 0; i < count; i += 1) await queue.add('noop', 1);
  },
};
ways.enqueue = ways.bulk;

async function timed(queue, command, count) {
  if (command !== 'enqueue') await ways[command](queue, GATHER_CHUNK);
  const started = performance.now();
  await ways[command](queue, count);
  return { jobs: count, seconds: (performance.now() - started) / 1000 };
}

async function sample(once, count, limitS) {
  for (let i = 0; i < WARM_UP_JOBS; i += 1) await once();
  const samples = [];
  const deadline = performance.now() + limitS * 1000;
  while (samples.length < count && performance.now() < deadline) {
    await sleep(5 + Math.random() * 10);
    samples.push(Number(await once()));
  }
  return { samples_ns: samples };
}

async function startLatencies(queue, count, limitS) {
  const answers = dgram.createSocket('udp4');
  await new Promise((resolve) => answers.bind(0, '127.0.0.1', resolve));
  const port = answers.address().port;
  const once = async () => {
    const answer = new Promise((resolve) => answers.once('message', resolve));
    const sent = nowNs();
    await queue.add('stamp', { port });
    return BigInt(String(await answer)) - sent;
  };
  const result = await sample(once, count, limitS);
  answers.close();
  return result;
}

async function resultLatencies(queue, count, limitS) {
  const events = new QueueEvents(QUEUE_NAME, { connection });
  await events.waitUntilReady();
  const once = async () => {
    const sent = nowNs();
    const job = await queue.add('noop', 1);
    await job.waitUntilFinished(events);
    return nowNs() - sent;
  };
  const result = await sample(once, count, limitS);
  await events.close();
  return result;
}

async function chord(count) {
  const events = new QueueEvents(QUEUE_NAME, { connection });
  await events.waitUntilReady();
  const flows = new FlowProducer({ connection });
  const runOnce = async (length) => {
    const children = Array.from({ length }, () => ({ name: 'noop', queueName: QUEUE_NAME, data: 1 }));
    const { job } = await flows.add({ name: 'body', queueName: QUEUE_NAME, children });
    if ((await job.waitUntilFinished(events)) !== length) throw new Error('the body did not get all values');
  };
  await runOnce(GATHER_CHUNK);
  const started = performance.now();
  await runOnce(count);
  const seconds = (performance.now() - started) / 1000;
  await flows.close();
  await events.close();
  return { jobs: count, seconds };
}

async function produce(command, count, limitS) {
  const queue = new Queue(QUEUE_NAME, { connection });
  await queue.waitUntilReady();
  let result;
  if (command === 'latency') result = await startLatencies(queue, count, limitS);
  else if (command === 'result-latency') result = await resultLatencies(queue, count, limitS);
  else if (command === 'chord') result = await chord(count);
  else if (ways[command]) result = await timed(queue, command, count);
  else result = { unsupported: true };
  console.log(JSON.stringify(result));
  await queue.close();
  process.exit(0);
}

// Standard input is held open by the driver: when it closes, the driver is gone.
process.stdin.on('end', () => process.exit(1)).resume();
const [command, ...numbers] = process.argv.slice(2);
if (command === 'work') work(...numbers.map(Number));
else produce(command, ...numbers.map(Number));
