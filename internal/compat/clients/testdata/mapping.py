"""A stream's records reach a function by an event source mapping; both through boto3."""
import json, sys, time
import boto3

stream, function = sys.argv[1:3]
kinesis, functions = boto3.client("kinesis"), boto3.client("lambda")
kinesis.create_stream(StreamName=stream, ShardCount=2)
kinesis.create_stream(StreamName="lost", ShardCount=1)
arn = kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["StreamARN"]
lost = kinesis.describe_stream_summary(StreamName="lost")["StreamDescriptionSummary"]["StreamARN"]
answer = functions.invoke(FunctionName=function, Payload=b'{"Records":[]}')
assert answer["StatusCode"] == 200 and "FunctionError" not in answer, answer
mapping = functions.create_event_source_mapping(
    EventSourceArn=arn, FunctionName=function, StartingPosition="TRIM_HORIZON", BatchSize=10, MaximumRetryAttempts=0,
    DestinationConfig={"OnFailure": {"Destination": lost}}, BisectBatchOnFunctionError=True)
assert mapping["State"] == "Enabled", mapping
kinesis.put_records(StreamName=stream, Records=[{"PartitionKey": str(i), "Data": b"poison" if i == 7 else b"good %d" % i} for i in range(20)])
iterator = kinesis.get_shard_iterator(StreamName="lost", ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
end = time.time() + 20
failures = []
while not failures and time.time() < end:
    page = kinesis.get_records(ShardIterator=iterator)
    failures, iterator = page["Records"], page["NextShardIterator"]
document = json.loads(failures[0]["Data"])
assert document["requestContext"]["condition"] == "RetryAttemptsExhausted", document
assert document["KinesisBatchInfo"]["batchSize"] == 1, document
assert len(json.loads(document["payload"])["Records"]) == 1, document
listed = functions.list_event_source_mappings(FunctionName=function)["EventSourceMappings"]
assert [m["UUID"] for m in listed] == [mapping["UUID"]], listed
changed = functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
assert changed["State"] == "Disabled", changed
functions.delete_event_source_mapping(UUID=mapping["UUID"])
try:
    functions.get_event_source_mapping(UUID=mapping["UUID"])
    raise SystemExit("a mapping that was deleted is there")
except functions.exceptions.ResourceNotFoundException:
    pass
print("ok")
