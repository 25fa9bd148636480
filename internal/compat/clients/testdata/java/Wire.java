import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import software.amazon.awssdk.core.interceptor.Context;
import software.amazon.awssdk.core.interceptor.ExecutionAttributes;
import software.amazon.awssdk.core.interceptor.ExecutionInterceptor;
import software.amazon.awssdk.protocols.jsoncore.JsonNode;
import software.amazon.awssdk.protocols.jsoncore.JsonWriter;

/** What the clients have in common: their plan, what they saw, and a note of what went over the wire. */
final class Wire implements ExecutionInterceptor {
    /** By target of the request: how it was sent and answered. */
    final Map<String, String> noted = new TreeMap<>();

    @Override
    public synchronized void afterTransmission(Context.AfterTransmission context, ExecutionAttributes attributes) {
        String target = context.httpRequest().firstMatchingHeader("X-Amz-Target").get();
        String sent = context.httpRequest().firstMatchingHeader("Content-Type").get();
        String answered = context.httpResponse().firstMatchingHeader("Content-Type").orElse("nothing");
        boolean http2 = context.httpResponse().firstMatchingHeader("x-http2-stream-id").isPresent(); // the Netty client adds it
        String how = sent + (answered.equals(sent) ? "" : " answered with " + answered) + (http2 ? " over HTTP/2" : " over HTTP/1.1");
        if (context.httpResponse().statusCode() != 200) {
            same(answered, sent, "content type of an error");
            return;
        }
        String before = noted.put(target, how);
        check(before == null || before.equals(how), target + ": " + before + ", then " + how);
    }

    static void check(boolean good, Object what) {
        if (!good) {
            throw new AssertionError(what);
        }
    }

    static void same(Object got, Object want, String of) {
        check(want.equals(got), of + "\n got " + got + "\nwant " + want);
    }

    static JsonNode plan(String[] args) {
        return JsonNode.parser().parse(args[0]);
    }

    static String text(JsonNode of, String name) {
        return of.field(name).get().asString();
    }

    static int number(JsonNode of, String name) {
        return Integer.parseInt(of.field(name).get().asNumber());
    }

    static List<JsonNode> list(JsonNode of, String name) {
        return of.field(name).get().asArray();
    }

    /** Writes maps, lists, texts and numbers as JSON, one value a line. */
    static void tell(Object seen) {
        JsonWriter w = JsonWriter.create();
        write(w, seen);
        System.out.println(new String(w.getBytes(), StandardCharsets.UTF_8));
    }

    private static void write(JsonWriter w, Object value) {
        if (value instanceof Map<?, ?> map) {
            w.writeStartObject();
            map.forEach((name, v) -> write(w.writeFieldName((String) name), v));
            w.writeEndObject();
        } else if (value instanceof List<?> list) {
            w.writeStartArray();
            list.forEach(v -> write(w, v));
            w.writeEndArray();
        } else if (value instanceof Number n) {
            w.writeValue(n.longValue());
        } else if (value instanceof Instant at) {
            w.writeValue(at.toEpochMilli());
        } else {
            w.writeValue((String) value);
        }
    }
}
