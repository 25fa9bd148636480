import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.protocols.jsoncore.JsonNode;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisClient;
import software.amazon.awssdk.services.kinesis.model.*;
import software.amazon.awssdk.services.kinesis.model.Record; // and not java.lang.Record

/**
 * Fan-out with the asynchronous client of the AWS SDK for Java in its default settings: HTTP/2, with
 * or without TLS, CBOR for everything except SubscribeToShard, which is JSON.
 */
final class FanOut {
    static final Wire wire = new Wire();
    static final long patience = 60; // seconds for what takes milliseconds on a machine that is not busy
    static final String shard = "shardId-000000000000";
    static KinesisAsyncClient kinesis;
    static String stream, arn;
    static int count; // records that were put; their data begins with their number

    public static void main(String[] args) throws Exception {
        JsonNode plan = Wire.plan(args);
        stream = Wire.text(plan, "Stream");
        arn = Wire.text(plan, "ARN");
        kinesis = KinesisAsyncClient.builder().overrideConfiguration(c -> c.addExecutionInterceptor(wire)).build();
        kinesis.createStream(r -> r.streamName(stream).shardCount(1)).join();
        kinesis.waiter().waitUntilStreamExists(r -> r.streamName(stream)).join();
        pushedAndContinued();
        positions();
        largeRecords();
        refused();
        try (KinesisClient blocking = KinesisClient.create()) { // over the same transport
            String iterator = blocking.getShardIterator(r -> r.streamName(stream).shardId(shard).shardIteratorType("TRIM_HORIZON")).shardIterator();
            Wire.check(!blocking.getRecords(r -> r.shardIterator(iterator).limit(1)).records().isEmpty(), "the blocking client reads nothing");
        }
        Wire.tell(Map.of("Wire", wire.noted, "Records", count));
        System.exit(0); // subscriptions would hold it up
    }

    static void put(int n, int size) {
        for (int i = 0; i < n; i++) {
            byte[] data = Arrays.copyOf((count++ + ";").getBytes(), size);
            kinesis.putRecord(r -> r.streamName(stream).partitionKey("ключ").data(SdkBytes.fromByteArray(data))).join();
        }
    }

    static String register(String name) {
        Consumer c = kinesis.registerStreamConsumer(r -> r.streamARN(arn).consumerName(name)).join().consumer();
        kinesis.describeStreamConsumer(r -> r.consumerARN(c.consumerARN())).join();
        return c.consumerARN();
    }

    /** A subscription and what it brought. */
    static final class Subscription {
        final List<Record> records = new ArrayList<>();
        final CompletableFuture<Void> open = new CompletableFuture<>(); // or refused
        final CompletableFuture<Void> ended;
        String continuation;
        int empty; // events without records

        Subscription(String consumer, StartingPosition from) {
            ended = kinesis.subscribeToShard(r -> r.consumerARN(consumer).shardId(shard).startingPosition(from),
                    SubscribeToShardResponseHandler.builder()
                            .onResponse(r -> open.complete(null))
                            .onError(e -> open.completeExceptionally(e instanceof CompletionException ? e.getCause() : e))
                            .subscriber(SubscribeToShardResponseHandler.Visitor.builder().onSubscribeToShardEvent(this::take).build())
                            .build());
        }

        synchronized void take(SubscribeToShardEvent e) {
            Wire.check(e.continuationSequenceNumber() != null, "an event without a continuation");
            records.addAll(e.records());
            continuation = e.continuationSequenceNumber();
            empty += e.records().isEmpty() ? 1 : 0;
            notifyAll();
        }

        /** Waits until there are records with the numbers first to count-1 and no others. */
        synchronized Subscription has(int first) throws InterruptedException {
            Instant late = Instant.now().plusSeconds(patience);
            while (records.size() < count - first) {
                Wire.check(Instant.now().isBefore(late) && !ended.isDone(), records.size() + " of " + (count - first) + " records came; ended: " + ended);
                wait(100);
            }
            List<String> got = new ArrayList<>(), want = new ArrayList<>();
            for (Record r : records) {
                String text = new String(r.data().asByteArray());
                got.add(text.substring(0, text.indexOf(';')) + r.partitionKey());
            }
            for (int i = first; i < count; i++) {
                want.add(i + "ключ");
            }
            Wire.same(got, want, "records");
            return this;
        }

        /** Waits for an error within the stream. */
        <E extends KinesisException> void endsWith(Class<E> type, String sentence) throws Exception {
            try {
                ended.get(patience, TimeUnit.SECONDS);
                throw new AssertionError("the subscription ended well");
            } catch (ExecutionException e) {
                Wire.same(e.getCause().getClass(), type, "error");
                Wire.same(((KinesisException) e.getCause()).awsErrorDetails().errorMessage(), sentence, "sentence");
            }
        }
    }

    static StartingPosition at(ShardIteratorType type) {
        return StartingPosition.builder().type(type).build();
    }

    static StartingPosition at(ShardIteratorType type, String number) {
        return StartingPosition.builder().type(type).sequenceNumber(number).build();
    }

    static <E extends KinesisException> void refused(Class<E> type, String sentence, String consumer, StartingPosition from) throws Exception {
        try {
            new Subscription(consumer, from).open.get(patience, TimeUnit.SECONDS);
            throw new AssertionError("not refused: " + sentence);
        } catch (ExecutionException e) {
            Wire.same(e.getCause().getClass(), type, "error");
            Wire.same(((KinesisException) e.getCause()).awsErrorDetails().errorMessage(), sentence, "sentence");
        }
    }

    /** What is there and what comes is pushed; who subscribes again goes on behind the last event, after five seconds. */
    static void pushedAndContinued() throws Exception {
        String consumer = register("goes-on");
        put(10, 100);
        Instant began = Instant.now();
        Subscription first = new Subscription(consumer, at(ShardIteratorType.TRIM_HORIZON)).has(0);
        put(20, 100);
        StartingPosition next = at(ShardIteratorType.AFTER_SEQUENCE_NUMBER, first.has(0).continuation);
        int from = count;
        refused(ResourceInUseException.class, "Another active subscription exists for this consumer: " + consumer, consumer, next);
        put(5, 100);
        first.has(0);
        Subscription second;
        for (;;) {
            second = new Subscription(consumer, next);
            try {
                second.open.get(patience, TimeUnit.SECONDS);
                break;
            } catch (ExecutionException e) {
                Wire.same(e.getCause().getClass(), ResourceInUseException.class, "error");
                Thread.sleep(50); // there is nothing to wait for but the time
            }
        }
        Duration after = Duration.between(began, Instant.now());
        Wire.check(after.toMillis() >= 4_990, "a second subscription was let in after " + after);
        first.endsWith(ResourceInUseException.class, "Another subscription of the consumer took over: " + consumer);
        put(5, 100);
        second.has(from);
        second.ended.cancel(true);
    }

    static void positions() throws Exception {
        Subscription all = new Subscription(register("all"), at(ShardIteratorType.TRIM_HORIZON)).has(0);
        Record pivot = all.records.get(7);
        new Subscription(register("at"), at(ShardIteratorType.AT_SEQUENCE_NUMBER, pivot.sequenceNumber())).has(7);
        new Subscription(register("after"), at(ShardIteratorType.AFTER_SEQUENCE_NUMBER, pivot.sequenceNumber())).has(8);
        int first = 0;
        while (all.records.get(first).approximateArrivalTimestamp().isBefore(pivot.approximateArrivalTimestamp())) {
            first++;
        }
        new Subscription(register("time"), StartingPosition.builder().type(ShardIteratorType.AT_TIMESTAMP).timestamp(pivot.approximateArrivalTimestamp()).build()).has(first);
        Subscription latest = new Subscription(register("latest"), at(ShardIteratorType.LATEST));
        latest.open.get(patience, TimeUnit.SECONDS);
        int from = count;
        put(1, 0x10);
        latest.has(from);
        all.has(0);
        all.ended.cancel(true);
    }

    /** Records that are larger than a stream's window. */
    static void largeRecords() throws Exception {
        String consumer = register("large");
        Subscription all = new Subscription(consumer, at(ShardIteratorType.LATEST));
        all.open.get(patience, TimeUnit.SECONDS);
        int from = count;
        put(4, 1_000_000);
        all.has(from);
        for (Record r : all.records) {
            Wire.same(r.data().asByteArray().length, 1_000_000, "bytes");
        }
        kinesis.deregisterStreamConsumer(r -> r.consumerARN(consumer)).join();
        all.endsWith(ResourceNotFoundException.class, "Consumer " + consumer + " was deregistered.");
    }

    static void refused() throws Exception {
        String gone = arn + "/consumer/nobody:1";
        refused(ResourceNotFoundException.class, "Consumer nobody under stream " + stream + ", account 000000000000 not found.", gone, at(ShardIteratorType.LATEST));
        String consumer = register("refused");
        refused(InvalidArgumentException.class, "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp parameter.",
                consumer, at(ShardIteratorType.AT_TIMESTAMP));
    }
}
