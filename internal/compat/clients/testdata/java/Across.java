import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.protocols.jsoncore.JsonNode;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisClient;
import software.amazon.awssdk.services.kinesis.model.*;
import software.amazon.awssdk.services.kinesis.model.Record; // and not java.lang.Record

/** A split and a merge under way with the AWS SDK for Java. See resharded in across_test.go. */
final class Across {
    static final KinesisClient kinesis = KinesisClient.create();
    static final KinesisAsyncClient pushing = KinesisAsyncClient.create();
    static JsonNode plan;
    static String stream;
    static int total;

    public static void main(String[] args) throws Exception {
        plan = Wire.plan(args);
        stream = Wire.text(plan, "Stream");
        total = Wire.number(plan, "Parts") * Wire.number(plan, "Part");
        kinesis.createStream(r -> r.streamName(stream).shardCount(1));
        kinesis.waiter().waitUntilStreamExists(r -> r.streamName(stream));
        String consumer = kinesis.registerStreamConsumer(r -> r.streamARN(Wire.text(plan, "ARN")).consumerName("java")).consumer().consumerARN();
        CompletableFuture<List<Passage>> pushed = CompletableFuture.supplyAsync(() -> follow(new Subscriber(consumer)));
        List<Object> put = puts();
        List<Passage> polled = follow(Across::poll);
        Wire.tell(Map.of("Put", put, "Polled", told(polled), "Pushed", told(pushed.get(60, TimeUnit.SECONDS))));
        System.exit(0); // a subscription would hold it up
    }

    /** A shard from its beginning to its end, or to its last record. */
    static final class Passage {
        final String shard;
        final List<String> parents;
        final List<Record> records = new ArrayList<>();

        Passage(String shard, List<String> parents) {
            this.shard = shard;
            this.parents = parents;
        }
    }

    static List<Object> told(List<Passage> passages) {
        List<Object> all = new ArrayList<>();
        for (Passage p : passages) {
            List<Object> records = new ArrayList<>();
            p.records.forEach(r -> records.add(Map.of("Seq", r.sequenceNumber(), "Key", r.partitionKey(), "Data", r.data().asUtf8String())));
            all.add(Map.of("Shard", p.shard, "Parents", p.parents, "Records", records));
        }
        return all;
    }

    interface Reader {
        /** Reads a shard and returns its children, none if it is open. */
        List<ChildShard> read(Passage shard);
    }

    /** Reads all shards, parents before children. */
    static List<Passage> follow(Reader reader) {
        List<Passage> passages = new ArrayList<>();
        Set<String> ended = new HashSet<>();
        Map<String, List<String>> waiting = new HashMap<>();
        ArrayDeque<Passage> ready = new ArrayDeque<>();
        kinesis.listShards(r -> r.streamName(stream).shardFilter(f -> f.type(ShardFilterType.AT_TRIM_HORIZON))).shards()
                .forEach(s -> ready.add(new Passage(s.shardId(), List.of())));
        while (!ready.isEmpty()) {
            Passage passage = ready.remove();
            passages.add(passage);
            List<ChildShard> children = reader.read(passage);
            if (children.isEmpty()) {
                continue;
            }
            ended.add(passage.shard);
            children.forEach(c -> waiting.put(c.shardId(), c.parentShards()));
            waiting.entrySet().removeIf(child -> ended.containsAll(child.getValue()) && ready.add(new Passage(child.getKey(), child.getValue())));
        }
        return passages;
    }

    static List<ChildShard> poll(Passage shard) {
        String iterator = kinesis.getShardIterator(r -> r.streamName(stream).shardId(shard.shard).shardIteratorType(ShardIteratorType.TRIM_HORIZON)).shardIterator();
        for (;;) {
            String from = iterator;
            GetRecordsResponse page = kinesis.getRecords(r -> r.shardIterator(from).limit(25));
            shard.records.addAll(page.records());
            iterator = page.nextShardIterator();
            Wire.check((iterator == null) == !page.childShards().isEmpty(), page);
            if (iterator == null || page.records().isEmpty() && page.millisBehindLatest() == 0) {
                return page.childShards();
            }
        }
    }

    /** Reads by subscriptions, one shard after the other. */
    static final class Subscriber implements Reader {
        final String consumer;
        int pushed;

        Subscriber(String consumer) {
            this.consumer = consumer;
        }

        @Override
        public List<ChildShard> read(Passage shard) {
            List<ChildShard> children = new ArrayList<>();
            CompletableFuture<Void> all = new CompletableFuture<>();
            CompletableFuture<Void> subscription = pushing.subscribeToShard(
                    r -> r.consumerARN(consumer).shardId(shard.shard).startingPosition(p -> p.type(ShardIteratorType.TRIM_HORIZON)),
                    SubscribeToShardResponseHandler.builder().subscriber(SubscribeToShardResponseHandler.Visitor.builder().onSubscribeToShardEvent(e -> {
                        Wire.check(children.isEmpty(), "an event after the last");
                        shard.records.addAll(e.records());
                        pushed += e.records().size();
                        children.addAll(e.childShards());
                        Wire.check((e.continuationSequenceNumber() == null) == !children.isEmpty(), e);
                        if (children.isEmpty() && pushed == total) {
                            all.complete(null);
                        }
                    }).build()).build());
            CompletableFuture.anyOf(all, subscription).join();
            return children;
        }
    }

    static void reshard(int part) {
        if (part == 1) {
            kinesis.splitShard(r -> r.streamName(stream).shardToSplit("shardId-000000000000").newStartingHashKey(Wire.text(plan, "Half")));
        }
        if (part == 3) {
            kinesis.mergeShards(r -> r.streamName(stream).shardToMerge("shardId-000000000001").adjacentShardToMerge("shardId-000000000002"));
        }
    }

    static List<Object> puts() {
        List<Object> placed = new ArrayList<>();
        List<JsonNode> keys = Wire.list(plan, "Keys");
        for (int part = 0; part < Wire.number(plan, "Parts"); part++) {
            int now = part;
            CompletableFuture<Void> resharding = CompletableFuture.runAsync(() -> reshard(now));
            for (int n = 0; n < Wire.number(plan, "Part"); n++) {
                int i = placed.size();
                PutRecordResponse out = kinesis.putRecord(r -> r.streamName(stream).partitionKey(keys.get(i % keys.size()).asString()).data(SdkBytes.fromUtf8String(String.valueOf(i))));
                placed.add(Map.of("Shard", out.shardId(), "Seq", out.sequenceNumber()));
            }
            resharding.join();
        }
        return placed;
    }
}
