import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import software.amazon.awssdk.awscore.exception.AwsServiceException;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.protocols.jsoncore.JsonNode;
import software.amazon.awssdk.services.firehose.FirehoseClient;
import software.amazon.awssdk.services.firehose.model.DeliveryStreamDescription;
import software.amazon.awssdk.services.kinesis.KinesisClient;
import software.amazon.awssdk.services.kinesis.model.*;
import software.amazon.awssdk.services.kinesis.model.Record; // and not java.lang.Record

/**
 * One life of a stream and a delivery stream with the AWS SDK for Java in its default settings: CBOR
 * for Kinesis and JSON for Firehose, over HTTP/1.1. See plan and observed in clients_test.go.
 */
final class Life {
    static final Wire wire = new Wire();
    static final Map<String, Object> seen = new TreeMap<>();
    static final List<Object> put = new ArrayList<>(), reads = new ArrayList<>();
    static final Map<String, Object> errors = new TreeMap<>();
    static KinesisClient kinesis;
    static String stream;

    public static void main(String[] args) {
        JsonNode plan = Wire.plan(args);
        stream = Wire.text(plan, "Stream");
        kinesis = KinesisClient.builder().overrideConfiguration(c -> c.addExecutionInterceptor(wire)).build();
        puts(plan);
        describes();
        pages();
        refused(Wire.text(plan, "Expired"));
        readsAll(plan);
        inJSON();
        delivers(plan);
        seen.put("Put", put);
        seen.put("Reads", reads);
        seen.put("Errors", errors);
        seen.put("Wire", wire.noted);
        Wire.tell(seen);
    }

    static SdkBytes data(JsonNode entry) {
        return SdkBytes.fromByteArray(Base64.getDecoder().decode(Wire.text(entry, "Data")));
    }

    static void put(JsonNode entry) {
        PutRecordResponse out = kinesis.putRecord(r -> r.streamName(stream).partitionKey(Wire.text(entry, "Key")).data(data(entry)));
        put.add(Map.of("Shard", out.shardId(), "Seq", out.sequenceNumber()));
    }

    static void puts(JsonNode plan) {
        kinesis.createStream(r -> r.streamName(stream).shardCount(2));
        kinesis.waiter().waitUntilStreamExists(r -> r.streamName(stream));
        Wire.list(plan, "Single").forEach(Life::put);
        List<PutRecordsRequestEntry> batch = new ArrayList<>();
        for (JsonNode e : Wire.list(plan, "Batch")) {
            batch.add(PutRecordsRequestEntry.builder().partitionKey(Wire.text(e, "Key")).data(data(e)).build());
        }
        PutRecordsResponse out = kinesis.putRecords(r -> r.streamName(stream).records(batch));
        Wire.same(out.failedRecordCount(), 0, "records that failed");
        out.records().forEach(r -> put.add(Map.of("Shard", r.shardId(), "Seq", r.sequenceNumber())));
    }

    static void describes() {
        StreamDescription d = kinesis.describeStream(r -> r.streamName(stream)).streamDescription();
        seen.put("Status", d.streamStatusAsString());
        seen.put("ARN", d.streamARN());
        seen.put("Created", d.streamCreationTimestamp());
        List<String> shards = new ArrayList<>();
        ListShardsResponse page = kinesis.listShards(r -> r.streamName(stream).maxResults(1).streamCreationTimestamp(d.streamCreationTimestamp()));
        for (;;) {
            page.shards().forEach(s -> shards.add(s.shardId()));
            String token = page.nextToken();
            if (token == null) {
                break;
            }
            page = kinesis.listShards(r -> r.nextToken(token));
        }
        seen.put("Shards", shards);
    }

    /** Paginators, and the waiter for the end of a stream. */
    static void pages() {
        List<String> shards = new ArrayList<>(), streams = new ArrayList<>(), consumers = new ArrayList<>();
        String old = null;
        for (DescribeStreamResponse page = null; page == null || page.streamDescription().hasMoreShards(); ) {
            String after = old;
            page = kinesis.describeStream(r -> r.streamName(stream).limit(1).exclusiveStartShardId(after));
            for (Shard s : page.streamDescription().shards()) {
                shards.add(old = s.shardId());
            }
        }
        Wire.same(shards, seen.get("Shards"), "shards by DescribeStream");
        for (String name : List.of("a", "b")) {
            kinesis.createStream(r -> r.streamName(name).streamModeDetails(m -> m.streamMode(StreamMode.ON_DEMAND)));
            kinesis.registerStreamConsumer(r -> r.streamARN((String) seen.get("ARN")).consumerName(name));
        }
        kinesis.listStreamsPaginator(r -> r.limit(1)).streamNames().forEach(streams::add);
        Wire.same(streams, List.of("a", "b", "old", stream), "streams");
        kinesis.listStreamConsumersPaginator(r -> r.streamARN((String) seen.get("ARN")).maxResults(1))
                .forEach(page -> page.consumers().forEach(c -> consumers.add(c.consumerName())));
        Wire.same(consumers, List.of("a", "b"), "consumers");
        for (String name : List.of("a", "b")) {
            kinesis.deleteStream(r -> r.streamName(name));
            kinesis.waiter().waitUntilStreamNotExists(r -> r.streamName(name));
        }
    }

    /** Errors by the class that the SDK makes of them. */
    static void fails(String what, Runnable call) {
        try {
            call.run();
            throw new AssertionError(what + " was not refused");
        } catch (AwsServiceException e) {
            if (what.equals("missing")) {
                seen.put("Error", e.awsErrorDetails().errorMessage());
            }
            errors.put(what, e.getClass().getSimpleName() + " " + e.statusCode() + ": " + e.awsErrorDetails().errorMessage());
        }
    }

    static void refused(String expired) {
        SdkBytes nothing = SdkBytes.fromByteArray(new byte[0]);
        fails("missing", () -> kinesis.describeStreamSummary(r -> r.streamName("none")));
        fails("exists", () -> kinesis.createStream(r -> r.streamName(stream).shardCount(1)));
        fails("name", () -> kinesis.createStream(r -> r.streamName("ströme & <more>").shardCount(0)));
        fails("key", () -> kinesis.putRecord(r -> r.streamName(stream).data(nothing).partitionKey("")));
        fails("entries", () -> kinesis.putRecords(r -> r.streamName(stream).records(PutRecordsRequestEntry.builder().data(nothing).build())));
        fails("hash", () -> kinesis.putRecord(r -> r.streamName(stream).data(nothing).partitionKey("k").explicitHashKey("340282366920938463463374607431768211456")));
        fails("expired", () -> kinesis.getRecords(r -> r.shardIterator(expired)));
        fails("iterator", () -> kinesis.getRecords(r -> r.shardIterator("AAAA")));
        fails("token", () -> kinesis.listStreamConsumers(r -> r.streamARN((String) seen.get("ARN")).nextToken("AAAA")));
        fails("dry run", () -> kinesis.putRecord(r -> r.streamName(stream).data(nothing).partitionKey("k").dryRun(true)));
    }

    static String iterator(String shard, ShardIteratorType type, Record pivot) {
        GetShardIteratorRequest.Builder in = GetShardIteratorRequest.builder().streamName(stream).shardId(shard).shardIteratorType(type);
        switch (type) {
            case AT_SEQUENCE_NUMBER, AFTER_SEQUENCE_NUMBER -> in.startingSequenceNumber(pivot.sequenceNumber());
            case AT_TIMESTAMP -> in.timestamp(pivot.approximateArrivalTimestamp());
            default -> { }
        }
        return kinesis.getShardIterator(in.build()).shardIterator();
    }

    static List<Record> read(KinesisClient client, String iterator) {
        List<Record> records = new ArrayList<>();
        for (;;) {
            String from = iterator;
            GetRecordsResponse page = client.getRecords(r -> r.shardIterator(from).limit(100));
            records.addAll(page.records());
            iterator = page.nextShardIterator();
            if (page.millisBehindLatest() == 0) {
                return records;
            }
        }
    }

    static List<Record> note(String shard, ShardIteratorType type, int pivot, String iterator) {
        List<Record> records = read(kinesis, iterator);
        List<Object> noted = new ArrayList<>();
        for (Record r : records) {
            noted.add(Map.of("Seq", r.sequenceNumber(), "Key", r.partitionKey(), "Arrived", r.approximateArrivalTimestamp(),
                    "Data", Base64.getEncoder().encodeToString(r.data().asByteArray())));
        }
        reads.add(Map.of("Shard", shard, "Type", type.toString(), "Pivot", pivot, "Records", noted));
        return records;
    }

    @SuppressWarnings("unchecked")
    static void readsAll(JsonNode plan) {
        Map<String, String> latest = new HashMap<>();
        for (String shard : (List<String>) seen.get("Shards")) {
            List<Record> all = note(shard, ShardIteratorType.TRIM_HORIZON, -1, iterator(shard, ShardIteratorType.TRIM_HORIZON, null));
            int at = all.size() / 2;
            for (ShardIteratorType type : List.of(ShardIteratorType.AT_SEQUENCE_NUMBER, ShardIteratorType.AFTER_SEQUENCE_NUMBER, ShardIteratorType.AT_TIMESTAMP)) {
                note(shard, type, at, iterator(shard, type, all.get(at)));
            }
            latest.put(shard, iterator(shard, ShardIteratorType.LATEST, null));
        }
        put(plan.field("Last").get());
        latest.forEach((shard, iterator) -> note(shard, ShardIteratorType.LATEST, -1, iterator));
    }

    /** The switch that many tests and tools set: everything is the same in JSON. */
    static void inJSON() {
        String shard = "shardId-000000000000";
        List<Record> want = read(kinesis, iterator(shard, ShardIteratorType.TRIM_HORIZON, null));
        System.setProperty("aws.cborEnabled", "false");
        try (KinesisClient json = KinesisClient.create()) {
            Wire.same(read(json, iterator(shard, ShardIteratorType.TRIM_HORIZON, null)), want, "records in JSON");
        }
    }


    static void delivers(JsonNode plan) {
        String name = Wire.text(plan, "Delivery"), bucket = "arn:aws:s3:::" + Wire.text(plan, "Bucket");
        FirehoseClient firehose = FirehoseClient.builder().overrideConfiguration(c -> c.addExecutionInterceptor(wire)).build();
        firehose.createDeliveryStream(r -> r.deliveryStreamName(name).extendedS3DestinationConfiguration(s -> s
                .roleARN("arn:aws:iam::000000000000:role/firehose").bucketARN(bucket).bufferingHints(b -> b.sizeInMBs(1).intervalInSeconds(0))));
        List<software.amazon.awssdk.services.firehose.model.Record> lines = new ArrayList<>();
        for (JsonNode line : Wire.list(plan, "Lines")) {
            lines.add(software.amazon.awssdk.services.firehose.model.Record.builder().data(SdkBytes.fromUtf8String(line.asString())).build());
        }
        firehose.putRecord(r -> r.deliveryStreamName(name).record(lines.get(0)));
        var out = firehose.putRecordBatch(r -> r.deliveryStreamName(name).records(lines.subList(1, lines.size())));
        Wire.same(out.failedPutCount(), 0, "lines that failed");
        Wire.same(out.requestResponses().size(), lines.size() - 1, "answers");
        DeliveryStreamDescription d = firehose.describeDeliveryStream(r -> r.deliveryStreamName(name)).deliveryStreamDescription();
        Wire.same(d.deliveryStreamStatusAsString(), "ACTIVE", "status");
        Wire.same(d.destinations().get(0).extendedS3DestinationDescription().bucketARN(), bucket, "bucket");
        fails("delivery", () -> firehose.describeDeliveryStream(r -> r.deliveryStreamName("none")));
    }
}
