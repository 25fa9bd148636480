"""A split and a merge under way with boto3. See resharded in across_test.go."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import boto3

plan = json.loads(sys.argv[1])
kinesis = boto3.client("kinesis")
stream, total = plan["Stream"], plan["Parts"] * plan["Part"]


def note(record):
    return {"Seq": record["SequenceNumber"], "Key": record["PartitionKey"], "Data": record["Data"].decode()}


def follow(read):
    """Reads all shards, parents before children."""
    passages, ended, waiting = [], set(), {}
    ready = [s["ShardId"] for s in kinesis.list_shards(StreamName=stream, ShardFilter={"Type": "AT_TRIM_HORIZON"})["Shards"]]
    ready = [{"Shard": shard, "Parents": []} for shard in ready]
    while ready:
        passage = ready.pop(0)
        passages.append(passage)
        passage["Records"] = []
        children = read(passage["Shard"], passage["Records"])
        if not children:
            continue
        ended.add(passage["Shard"])
        waiting |= {c["ShardId"]: c["ParentShards"] for c in children}
        for shard in [s for s, parents in waiting.items() if ended.issuperset(parents)]:
            ready.append({"Shard": shard, "Parents": waiting.pop(shard)})
    return passages


def poll(shard, records):
    it = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
    while True:
        page = kinesis.get_records(ShardIterator=it, Limit=25)
        records += map(note, page["Records"])
        it = page.get("NextShardIterator")
        assert bool(it) != bool(page.get("ChildShards")), page
        if not it or not page["Records"] and page["MillisBehindLatest"] == 0:
            return page.get("ChildShards")


def subscriber(consumer):
    pushed = 0

    def subscribe(shard, records):
        nonlocal pushed
        events = kinesis.subscribe_to_shard(ConsumerARN=consumer, ShardId=shard, StartingPosition={"Type": "TRIM_HORIZON"})["EventStream"]
        children = None
        for event in events:
            event = event["SubscribeToShardEvent"]
            assert not children, event  # they come with the last event
            records += map(note, event["Records"])
            pushed += len(event["Records"])
            children = event.get("ChildShards")
            assert bool(event.get("ContinuationSequenceNumber")) != bool(children), event
            if not children and pushed == total:
                break
        events.close()
        return children

    return subscribe


def put(i):
    out = kinesis.put_record(StreamName=stream, PartitionKey=plan["Keys"][i % len(plan["Keys"])], Data=str(i))
    return {"Shard": out["ShardId"], "Seq": out["SequenceNumber"]}


def reshard(part):
    if part == 1:
        kinesis.split_shard(StreamName=stream, ShardToSplit="shardId-000000000000", NewStartingHashKey=plan["Half"])
    if part == 3:
        kinesis.merge_shards(StreamName=stream, ShardToMerge="shardId-000000000001", AdjacentShardToMerge="shardId-000000000002")


kinesis.create_stream(StreamName=stream, ShardCount=1)
kinesis.get_waiter("stream_exists").wait(StreamName=stream)
consumer = kinesis.register_stream_consumer(StreamARN=plan["ARN"], ConsumerName="boto3")["Consumer"]["ConsumerARN"]
with ThreadPoolExecutor() as threads:
    pushing = threads.submit(follow, subscriber(consumer))
    placed = []
    for part in range(plan["Parts"]):
        resharding = threads.submit(reshard, part)
        placed += [put(i) for i in range(part * plan["Part"], (part + 1) * plan["Part"])]
        resharding.result()
    print(json.dumps({"Put": placed, "Polled": follow(poll), "Pushed": pushing.result()}))
