// The native batch guest of the conformance kit (../../README.md), with sdk/assemblyscript.
import { Record, WARN, config, emit, failBatch, log, metric, setTransform, stateGet, statePut } from "../../../assemblyscript/shardmill";
export { shardmill_abi_v1, shardmill_alloc, shardmill_transform } from "../../../assemblyscript/shardmill";

function or(value: string): string {
  return value == "" ? "absent" : value;
}

setTransform((r: Record): void => {
  if (r.length == 0) {
    r.okText("empty");
    return;
  }
  const arg = r.data + 1;
  const n = r.length - 1;
  const text = String.UTF8.decodeUnsafe(arg, min<u32>(n, 4096));
  switch (load<u8>(r.data)) {
    case 0x3d: // =
      r.ok(arg, n);
      break;
    case 0x32: // 2
      for (let i = 0; i < 2; i++) {
        r.begin();
        r.putText(i == 0 ? "a:" : "b:");
        r.put(arg, n);
        r.end();
      }
      break;
    case 0x64: // d
      r.dropped();
      break;
    case 0x66: // f
      r.failed();
      break;
    case 0x73: // s
      break;
    case 0x6b: // k
      r.begin();
      r.put(arg, n);
      r.key("day", "01");
      r.key("straße", text);
      r.end();
      break;
    case 0x70: // p
      r.okText(or(r.partitionKey()));
      break;
    case 0x71: // q
      r.okText(or(r.sequenceNumber()));
      break;
    case 0x74: // t
      r.okText(r.arrived() == 0 ? "absent" : r.arrived().toString());
      break;
    case 0x63: { // c
      const v = config(text);
      r.okText(v === null ? "absent" : v);
      break;
    }
    case 0x6c: // l
      log(WARN, text);
      r.dropped();
      break;
    case 0x21: // !
      failBatch(text);
      break;
    case 0x78: // x
      throw new Error("as told");
    case 0x6e: // n
      r.begin();
      for (let i = 0; i < 1000; i++) r.put(arg, n);
      r.end();
      break;
    case 0x4d: // M
      metric("seen_total", 1);
      metric(text, 2.5);
      r.dropped();
      break;
    case 0x67: { // g
      const v = stateGet(text);
      if (v == null) r.okText("absent");
      else r.ok(changetype<usize>(v), v.byteLength);
      break;
    }
    case 0x53: { // S
      let at: u32 = 0;
      while (load<u8>(arg + at) != 0x3d) at++;
      const value = new ArrayBuffer(n - at - 1);
      memory.copy(changetype<usize>(value), arg + at + 1, value.byteLength);
      r.okText(statePut(String.UTF8.decodeUnsafe(arg, at), value).toString());
      break;
    }
    case 0x45: { // E
      let a: u32 = 0;
      while (load<u8>(arg + a) != 0x7c) a++;
      let b = a + 1;
      while (load<u8>(arg + b) != 0x7c) b++;
      r.okText(emit(String.UTF8.decodeUnsafe(arg, a), String.UTF8.decodeUnsafe(arg + a + 1, b - a - 1), arg + b + 1, n - b - 1).toString());
      break;
    }
    default:
      failBatch("unknown command");
  }
});
