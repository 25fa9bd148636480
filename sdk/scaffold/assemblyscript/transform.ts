import { Record, setTransform } from "./shardmill";
export { shardmill_abi_v1, shardmill_alloc, shardmill_transform } from "./shardmill";

// Drops empty records and ends the others with a newline.
setTransform((r: Record): void => {
  if (r.length == 0) {
    r.dropped();
    return;
  }
  r.begin();
  r.put(r.data, r.length);
  r.putText("\n");
  r.end();
});
