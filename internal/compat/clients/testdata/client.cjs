// One life of a stream and a delivery stream with the AWS SDK for JavaScript, in its default
// settings: HTTP/2 without TLS for Kinesis, HTTP/1.1 for Firehose. See plan and observed in
// clients_test.go.

const assert = require("node:assert");
const kinesisSDK = require("@aws-sdk/client-kinesis");
const firehoseSDK = require("@aws-sdk/client-firehose");

const plan = JSON.parse(process.argv[2]);
const kinesis = new kinesisSDK.KinesisClient({});
const firehose = new firehoseSDK.FirehoseClient({});
const seen = { Put: [], Reads: [] };

const entry = (e) => ({ PartitionKey: e.Key, Data: Buffer.from(e.Data, "base64") });

async function put(e) {
  const out = await kinesis.send(new kinesisSDK.PutRecordCommand({ StreamName: plan.Stream, ...entry(e) }));
  seen.Put.push({ Shard: out.ShardId, Seq: out.SequenceNumber });
}

async function iterator(shard, kind, more) {
  const out = await kinesis.send(new kinesisSDK.GetShardIteratorCommand({ StreamName: plan.Stream, ShardId: shard, ShardIteratorType: kind, ...more }));
  return out.ShardIterator;
}

async function read(it) {
  const records = [];
  for (;;) {
    const page = await kinesis.send(new kinesisSDK.GetRecordsCommand({ ShardIterator: it, Limit: 20 }));
    records.push(...page.Records);
    it = page.NextShardIterator;
    if (page.MillisBehindLatest === 0) return records;
  }
}

function note(shard, kind, pivot, records) {
  seen.Reads.push({
    Shard: shard, Type: kind, Pivot: pivot,
    Records: records.map((r) => ({
      Seq: r.SequenceNumber, Key: r.PartitionKey, Data: Buffer.from(r.Data).toString("base64"), Arrived: r.ApproximateArrivalTimestamp.getTime(),
    })),
  });
}

async function streams() {
  await kinesis.send(new kinesisSDK.CreateStreamCommand({ StreamName: plan.Stream, ShardCount: 2 }));
  await kinesisSDK.waitUntilStreamExists({ client: kinesis, maxWaitTime: 20 }, { StreamName: plan.Stream });
  for (const e of plan.Single) await put(e);
  const out = await kinesis.send(new kinesisSDK.PutRecordsCommand({ StreamName: plan.Stream, Records: plan.Batch.map(entry) }));
  assert.equal(out.FailedRecordCount, 0);
  seen.Put.push(...out.Records.map((r) => ({ Shard: r.ShardId, Seq: r.SequenceNumber })));

  const described = (await kinesis.send(new kinesisSDK.DescribeStreamCommand({ StreamName: plan.Stream }))).StreamDescription;
  seen.Status = described.StreamStatus;
  seen.ARN = described.StreamARN;
  seen.Shards = [];
  for (let page = { MaxResults: 1, StreamName: plan.Stream }; page; ) {
    const listed = await kinesis.send(new kinesisSDK.ListShardsCommand(page));
    seen.Shards.push(...listed.Shards.map((s) => s.ShardId));
    page = listed.NextToken && { NextToken: listed.NextToken };
  }
  await kinesis.send(new kinesisSDK.DescribeStreamSummaryCommand({ StreamName: "none" })).catch((e) => {
    assert.ok(e instanceof kinesisSDK.ResourceNotFoundException, e);
    seen.Error = e.message;
  });

  const latest = {};
  for (const shard of seen.Shards) {
    const records = await read(await iterator(shard, "TRIM_HORIZON"));
    note(shard, "TRIM_HORIZON", -1, records);
    const pivot = Math.floor(records.length / 2);
    const at = { StartingSequenceNumber: records[pivot].SequenceNumber };
    note(shard, "AT_SEQUENCE_NUMBER", pivot, await read(await iterator(shard, "AT_SEQUENCE_NUMBER", at)));
    note(shard, "AFTER_SEQUENCE_NUMBER", pivot, await read(await iterator(shard, "AFTER_SEQUENCE_NUMBER", at)));
    note(shard, "AT_TIMESTAMP", pivot, await read(await iterator(shard, "AT_TIMESTAMP", { Timestamp: records[pivot].ApproximateArrivalTimestamp })));
    latest[shard] = await iterator(shard, "LATEST");
  }
  await put(plan.Last);
  for (const shard of seen.Shards) note(shard, "LATEST", -1, await read(latest[shard]));
}

// Fan-out: every record of every shard is pushed, in order, as it is read.
async function fanOut() {
  const arn = "arn:aws:kinesis:us-east-1:000000000000:stream/" + plan.Stream;
  const { Consumer } = await kinesis.send(new kinesisSDK.RegisterStreamConsumerCommand({ StreamARN: arn, ConsumerName: "javascript" }));
  for (const shard of seen.Shards) {
    const wanted = (await read(await iterator(shard, "TRIM_HORIZON"))).map((r) => r.SequenceNumber);
    const pushed = [];
    const { EventStream } = await kinesis.send(new kinesisSDK.SubscribeToShardCommand({
      ConsumerARN: Consumer.ConsumerARN, ShardId: shard, StartingPosition: { Type: "TRIM_HORIZON" } }));
    for await (const { SubscribeToShardEvent: event } of EventStream) {
      assert.ok(event.ContinuationSequenceNumber);
      pushed.push(...event.Records.map((r) => r.SequenceNumber));
      if (event.MillisBehindLatest === 0) break;
    }
    assert.deepEqual(pushed, wanted);
  }
}

async function deliveries() {
  await firehose.send(new firehoseSDK.CreateDeliveryStreamCommand({
    DeliveryStreamName: plan.Delivery,
    ExtendedS3DestinationConfiguration: {
      RoleARN: "arn:aws:iam::000000000000:role/firehose", BucketARN: "arn:aws:s3:::" + plan.Bucket,
      BufferingHints: { SizeInMBs: 1, IntervalInSeconds: 0 },
    },
  }));
  const lines = plan.Lines.map((line) => ({ Data: Buffer.from(line) }));
  await firehose.send(new firehoseSDK.PutRecordCommand({ DeliveryStreamName: plan.Delivery, Record: lines[0] }));
  const out = await firehose.send(new firehoseSDK.PutRecordBatchCommand({ DeliveryStreamName: plan.Delivery, Records: lines.slice(1) }));
  assert.equal(out.FailedPutCount, 0);
  assert.equal(out.RequestResponses.length, lines.length - 1);
}

streams().then(fanOut).then(deliveries).then(() => {
  process.stdout.write(JSON.stringify(seen) + "\n", () => process.exit()); // subscriptions would hold it up
});
