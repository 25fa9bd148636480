package demo;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.util.Map;

/** Answers with what it was given, and with what it knows of its invocation. */
public class Handler implements RequestHandler<Map<String, Object>, Map<String, Object>> {
    @Override
    public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
        if (event.containsKey("fail")) {
            throw new IllegalStateException((String) event.get("fail"));
        }
        context.getLogger().log("hello " + event.get("who") + "\n");
        return Map.of("got", event.get("who"), "id", context.getAwsRequestId(), "function", context.getFunctionName(),
            "memory", context.getMemoryLimitInMB(), "env", System.getenv("AWS_EXECUTION_ENV"));
    }

    public String method(String text, Context context) {
        return text.toUpperCase();
    }
}
