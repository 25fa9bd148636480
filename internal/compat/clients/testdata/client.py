"""One life of a stream and a delivery stream with boto3. See plan and observed in clients_test.go."""

import base64
import json
import sys
from datetime import timedelta, timezone

import boto3

plan = json.loads(sys.argv[1])
kinesis, firehose, s3 = (boto3.client(name) for name in ("kinesis", "firehose", "s3"))
seen = {"Put": [], "Reads": []}


def entry(e):
    return {"PartitionKey": e["Key"], "Data": base64.b64decode(e["Data"])}


def put(e):
    out = kinesis.put_record(StreamName=plan["Stream"], **entry(e))
    seen["Put"].append({"Shard": out["ShardId"], "Seq": out["SequenceNumber"]})


def iterator(shard, kind, **more):
    out = kinesis.get_shard_iterator(StreamName=plan["Stream"], ShardId=shard, ShardIteratorType=kind, **more)
    return out["ShardIterator"]


def read(it):
    records = []
    while True:
        page = kinesis.get_records(ShardIterator=it, Limit=20)
        records += page["Records"]
        it = page["NextShardIterator"]
        if page["MillisBehindLatest"] == 0:
            return records


def note(shard, kind, pivot, records):
    seen["Reads"].append({"Shard": shard, "Type": kind, "Pivot": pivot, "Records": [{
        "Seq": r["SequenceNumber"], "Key": r["PartitionKey"], "Data": base64.b64encode(r["Data"]).decode(),
        "Arrived": round(r["ApproximateArrivalTimestamp"].timestamp() * 1000)} for r in records]})


kinesis.create_stream(StreamName=plan["Stream"], ShardCount=2)
kinesis.get_waiter("stream_exists").wait(StreamName=plan["Stream"])
for e in plan["Single"]:
    put(e)
out = kinesis.put_records(StreamName=plan["Stream"], Records=[entry(e) for e in plan["Batch"]])
assert out["FailedRecordCount"] == 0, out
seen["Put"] += [{"Shard": r["ShardId"], "Seq": r["SequenceNumber"]} for r in out["Records"]]

described = kinesis.describe_stream(StreamName=plan["Stream"])["StreamDescription"]
seen["Status"], seen["ARN"] = described["StreamStatus"], described["StreamARN"]
# Not by get_paginator: it sends StreamName beside NextToken, which the service refuses.
seen["Shards"], more = [], {"StreamName": plan["Stream"]}
while more:
    page = kinesis.list_shards(MaxResults=1, **more)
    seen["Shards"] += [s["ShardId"] for s in page["Shards"]]
    more = {"NextToken": page["NextToken"]} if "NextToken" in page else None
names = [n for page in kinesis.get_paginator("list_streams").paginate() for n in page["StreamNames"]]
assert names == [plan["Stream"]], names
try:
    kinesis.describe_stream_summary(StreamName="none")
except kinesis.exceptions.ResourceNotFoundException as e:
    seen["Error"] = e.response["Error"]["Message"]

latest = {}
for shard in seen["Shards"]:
    records = read(iterator(shard, "TRIM_HORIZON"))
    note(shard, "TRIM_HORIZON", -1, records)
    pivot = len(records) // 2
    at = {"StartingSequenceNumber": records[pivot]["SequenceNumber"]}
    when = records[pivot]["ApproximateArrivalTimestamp"].astimezone(timezone(timedelta(hours=5)))  # any zone will do
    note(shard, "AT_SEQUENCE_NUMBER", pivot, read(iterator(shard, "AT_SEQUENCE_NUMBER", **at)))
    note(shard, "AFTER_SEQUENCE_NUMBER", pivot, read(iterator(shard, "AFTER_SEQUENCE_NUMBER", **at)))
    note(shard, "AT_TIMESTAMP", pivot, read(iterator(shard, "AT_TIMESTAMP", Timestamp=when)))
    latest[shard] = iterator(shard, "LATEST")
put(plan["Last"])
for shard in seen["Shards"]:
    note(shard, "LATEST", -1, read(latest[shard]))

# Fan-out: every record of every shard is pushed, in order, as it was read above.
consumer = kinesis.register_stream_consumer(
    StreamARN="arn:aws:kinesis:us-east-1:000000000000:stream/" + plan["Stream"], ConsumerName="boto3")["Consumer"]
for shard in seen["Shards"]:
    wanted = [r["SequenceNumber"] for r in read(iterator(shard, "TRIM_HORIZON"))]
    pushed = []
    events = kinesis.subscribe_to_shard(
        ConsumerARN=consumer["ConsumerARN"], ShardId=shard, StartingPosition={"Type": "TRIM_HORIZON"})["EventStream"]
    for event in events:
        event = event["SubscribeToShardEvent"]
        assert event["ContinuationSequenceNumber"]
        pushed += [r["SequenceNumber"] for r in event["Records"]]
        if event["MillisBehindLatest"] == 0:
            break
    events.close()
    assert pushed == wanted, (shard, pushed, wanted)

# Settings: encryption, monitoring, tags of a consumer.
key = {"StreamARN": seen["ARN"], "EncryptionType": "KMS", "KeyId": "alias/aws/kinesis"}
kinesis.start_stream_encryption(**key)
described = kinesis.describe_stream_summary(StreamARN=seen["ARN"])["StreamDescriptionSummary"]
assert (described["EncryptionType"], described["KeyId"]) == ("KMS", "alias/aws/kinesis"), described
out = kinesis.put_record(StreamName=plan["Stream"], PartitionKey="secret", Data=b"sealed \xff")
assert out["EncryptionType"] == "KMS", out
kinesis.stop_stream_encryption(**key)
last = read(iterator(out["ShardId"], "AT_SEQUENCE_NUMBER", StartingSequenceNumber=out["SequenceNumber"]))
assert [(r["Data"], r.get("EncryptionType")) for r in last] == [(b"sealed \xff", "KMS")], last
assert "EncryptionType" not in kinesis.put_record(StreamName=plan["Stream"], PartitionKey="open", Data=b"")

out = kinesis.enable_enhanced_monitoring(StreamName=plan["Stream"], ShardLevelMetrics=["ALL"])
assert (out["CurrentShardLevelMetrics"], len(out["DesiredShardLevelMetrics"])) == ([], 7), out
out = kinesis.disable_enhanced_monitoring(StreamName=plan["Stream"], ShardLevelMetrics=["IncomingBytes"])
assert len(out["CurrentShardLevelMetrics"]) == 7 and "IncomingBytes" not in out["DesiredShardLevelMetrics"], out

tagged = kinesis.register_stream_consumer(StreamARN=seen["ARN"], ConsumerName="tagged", Tags={"a": "1"})["Consumer"]["ConsumerARN"]
kinesis.tag_resource(ResourceARN=tagged, Tags={"b": "2"})
assert kinesis.list_tags_for_resource(ResourceARN=tagged)["Tags"] == [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]
kinesis.put_resource_policy(ResourceARN=tagged, Policy=json.dumps({"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Principal": {"AWS": "111111111111"}, "Action": "kinesis:SubscribeToShard", "Resource": tagged}]}))
assert "111111111111" in kinesis.get_resource_policy(ResourceARN=tagged)["Policy"]

firehose.create_delivery_stream(
    DeliveryStreamName=plan["Delivery"],
    ExtendedS3DestinationConfiguration={
        "RoleARN": "arn:aws:iam::000000000000:role/firehose", "BucketARN": "arn:aws:s3:::" + plan["Bucket"],
        "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 0}})
lines = [{"Data": line} for line in plan["Lines"]]
firehose.put_record(DeliveryStreamName=plan["Delivery"], Record=lines[0])
out = firehose.put_record_batch(DeliveryStreamName=plan["Delivery"], Records=lines[1:])
assert out["FailedPutCount"] == 0 and len(out["RequestResponses"]) == len(lines) - 1, out

print(json.dumps(seen), flush=True)
sys.stdin.readline()  # until everything is delivered
listed = s3.list_objects_v2(Bucket=plan["Bucket"])["Contents"]
print(json.dumps([s3.get_object(Bucket=plan["Bucket"], Key=o["Key"])["Body"].read().decode() for o in listed]))
