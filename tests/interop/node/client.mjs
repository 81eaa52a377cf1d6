// node client.mjs ADDRESS CASE: runs one case against a server and prints its facts as one line of JSON.
import * as cases from "./cases.mjs";
import { Wire } from "./wire.mjs";

const [address, name] = process.argv.slice(2);
const wire = new Wire(address);
console.log(JSON.stringify(await cases[name](wire)));
wire.close();
