// A split and a merge under way with the AWS SDK for JavaScript. See resharded in across_test.go.

const assert = require("node:assert");
const sdk = require("@aws-sdk/client-kinesis");

const plan = JSON.parse(process.argv[2]);
const kinesis = new sdk.KinesisClient({});
const StreamName = plan.Stream;
const total = plan.Parts * plan.Part;

const note = (r) => ({ Seq: r.SequenceNumber, Key: r.PartitionKey, Data: Buffer.from(r.Data).toString() });
const some = (list) => Boolean(list && list.length);

// Reads all shards, parents before children.
async function follow(read) {
  const passages = [], ended = new Set(), waiting = new Map();
  const listed = await kinesis.send(new sdk.ListShardsCommand({ StreamName, ShardFilter: { Type: "AT_TRIM_HORIZON" } }));
  const ready = listed.Shards.map((s) => ({ Shard: s.ShardId, Parents: [], Records: [] }));
  while (ready.length) {
    const passage = ready.shift();
    passages.push(passage);
    const children = await read(passage.Shard, passage.Records);
    if (!some(children)) continue;
    ended.add(passage.Shard);
    for (const c of children) waiting.set(c.ShardId, c.ParentShards);
    for (const [Shard, Parents] of waiting) {
      if (!Parents.every((p) => ended.has(p))) continue;
      waiting.delete(Shard);
      ready.push({ Shard, Parents, Records: [] });
    }
  }
  return passages;
}

async function poll(shard, records) {
  const first = await kinesis.send(new sdk.GetShardIteratorCommand({ StreamName, ShardId: shard, ShardIteratorType: "TRIM_HORIZON" }));
  for (let it = first.ShardIterator; ; ) {
    const page = await kinesis.send(new sdk.GetRecordsCommand({ ShardIterator: it, Limit: 25 }));
    records.push(...page.Records.map(note));
    it = page.NextShardIterator;
    assert.notEqual(Boolean(it), some(page.ChildShards), JSON.stringify(page));
    if (!it || (page.Records.length === 0 && page.MillisBehindLatest === 0)) return page.ChildShards;
  }
}

function subscriber(consumer) {
  let pushed = 0;
  return async (shard, records) => {
    const { EventStream } = await kinesis.send(new sdk.SubscribeToShardCommand({
      ConsumerARN: consumer, ShardId: shard, StartingPosition: { Type: "TRIM_HORIZON" } }));
    let children;
    for await (const { SubscribeToShardEvent: event } of EventStream) {
      assert.ok(!some(children), "an event after the last");
      records.push(...event.Records.map(note));
      pushed += event.Records.length;
      children = event.ChildShards;
      assert.notEqual(Boolean(event.ContinuationSequenceNumber), some(children), JSON.stringify(event));
      if (!some(children) && pushed === total) break;
    }
    return children;
  };
}

async function reshard(part) {
  if (part === 1) await kinesis.send(new sdk.SplitShardCommand({ StreamName, ShardToSplit: "shardId-000000000000", NewStartingHashKey: plan.Half }));
  if (part === 3) await kinesis.send(new sdk.MergeShardsCommand({ StreamName, ShardToMerge: "shardId-000000000001", AdjacentShardToMerge: "shardId-000000000002" }));
}

async function puts() {
  const placed = [];
  for (let part = 0; part < plan.Parts; part++) {
    const resharding = reshard(part);
    for (let n = 0; n < plan.Part; n++) {
      const i = placed.length;
      const out = await kinesis.send(new sdk.PutRecordCommand({ StreamName, PartitionKey: plan.Keys[i % plan.Keys.length], Data: Buffer.from(String(i)) }));
      placed.push({ Shard: out.ShardId, Seq: out.SequenceNumber });
    }
    await resharding;
  }
  return placed;
}

async function main() {
  await kinesis.send(new sdk.CreateStreamCommand({ StreamName, ShardCount: 1 }));
  await sdk.waitUntilStreamExists({ client: kinesis, maxWaitTime: 20 }, { StreamName });
  const { Consumer } = await kinesis.send(new sdk.RegisterStreamConsumerCommand({ StreamARN: plan.ARN, ConsumerName: "javascript" }));
  const [Put, Pushed] = await Promise.all([puts(), follow(subscriber(Consumer.ConsumerARN))]);
  const seen = { Put, Pushed, Polled: await follow(poll) };
  process.stdout.write(JSON.stringify(seen) + "\n", () => process.exit()); // a subscription would hold it up
}

main();
