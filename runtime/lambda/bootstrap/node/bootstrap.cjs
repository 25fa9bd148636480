// The runtime of Node.js handlers: it loads the function that _HANDLER names and hands it one event
// of the Runtime API after the other. Handlers may return a value or a promise, be async, take a
// callback, use context.done, succeed and fail, or stream their answer (awslambda.streamifyResponse).
//
// What handlers can observe is Lambda's: the context, the error documents, the lines of console.
'use strict';

const http = require('http');
const fs = require('fs');
const path = require('path');
const util = require('util');
const { Writable } = require('stream');
const { pathToFileURL } = require('url');

const [apiHost, apiPort] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
const agent = new http.Agent({ keepAlive: true, maxSockets: 2 });
const prefix = '/2018-06-01/runtime';
const streaming = Symbol('streaming');
const highWaterMark = Symbol('highWaterMark');

let requestId; // of the invocation in progress, or of the last one
let current = null; // the invocation in progress
let crashing = false; // an error that nobody caught is being reported

// ---- the Runtime API

function call(method, where, headers, body) {
  return new Promise((resolve, reject) => {
    const req = http.request({ host: apiHost, port: apiPort, method, path: prefix + where, headers, agent }, (res) => {
      const parts = [];
      res.on('data', (part) => parts.push(part));
      res.on('end', () => resolve({ status: res.statusCode, headers: res.headers, body: Buffer.concat(parts) }));
      res.on('error', reject);
    });
    req.on('error', reject);
    req.end(body);
  });
}

async function post(where, body, headers = {}) {
  const bytes = Buffer.from(body, 'utf8');
  const res = await call('POST', where, { 'Content-Type': 'application/json', 'Content-Length': bytes.length, ...headers }, bytes);
  if (res.status !== 202) {
    // After a refusal (an answer that is too large, say) the host expects nothing good of this process.
    process.stderr.write(`POST ${where}: ${res.status} ${res.body}\n`);
    process.exit(1);
  }
}

// ---- errors

class RuntimeError extends Error {
  constructor(type, message) {
    super(message);
    this.name = type;
  }
}

// isError is true for errors of other realms (vm) too.
function isError(e) {
  return e instanceof Error || util.types.isNativeError(e);
}

function errorDocument(e) {
  if (!isError(e)) {
    return { errorType: typeof e, errorMessage: String(e), trace: [] };
  }
  return { errorType: String(e.name), errorMessage: String(e.message), trace: String(e.stack ?? '').split('\n') };
}

function errorHeaders(doc) {
  // The service knows these names only; any other stays in the body.
  return /^(Runtime|Function)\.[A-Z][a-zA-Z]+$/.test(doc.errorType) ? { 'Lambda-Runtime-Function-Error-Type': doc.errorType } : {};
}

// loggable is the error as Lambda logs it: all its own properties, and its stack as lines.
function loggable(e) {
  const doc = errorDocument(e);
  const more = {};
  if (isError(e)) {
    for (const key of Object.keys(e)) {
      if (key !== 'name' && key !== 'message' && key !== 'stack') more[key] = e[key];
    }
  }
  try {
    return JSON.stringify({ errorType: doc.errorType, errorMessage: doc.errorMessage, ...more, stack: doc.trace });
  } catch {
    return JSON.stringify({ errorType: doc.errorType, errorMessage: doc.errorMessage, stack: doc.trace });
  }
}

// ---- logs

function line(level, text) {
  process.stdout.write(`${new Date().toISOString()}\t${requestId}\t${level}\t${text}\n`);
}

function patchConsole() {
  const to = (level) => (...args) => line(level, util.format(...args));
  Object.assign(console, {
    log: to('INFO'), info: to('INFO'), debug: to('DEBUG'), warn: to('WARN'), error: to('ERROR'), fatal: to('FATAL'),
    trace: (...args) => {
      const at = new Error();
      at.name = 'Trace';
      at.message = util.format(...args);
      Error.captureStackTrace(at, console.trace);
      line('TRACE', at.stack);
    },
  });
}

// ---- streamed answers

class ResponseStream extends Writable {
  constructor(invocation, mark) {
    super({ highWaterMark: mark, decodeStrings: true });
    this.invocation = invocation;
    this.contentType = 'application/octet-stream';
    this.prelude = null;
    this.req = null;
    this.answered = new Promise((resolve, reject) => {
      this.resolveAnswer = resolve;
      this.rejectAnswer = reject;
    });
    this.answered.catch(() => {});
  }

  setContentType(type) {
    if (this.req) throw new Error('the content type was sent already, with the first write');
    this.contentType = type;
  }

  write(chunk, encoding, done) {
    if (typeof chunk !== 'string' && !(chunk instanceof Uint8Array)) chunk = JSON.stringify(chunk);
    return super.write(chunk, encoding, done);
  }

  open() {
    if (this.req) return;
    this.req = http.request({
      host: apiHost, port: apiPort, method: 'POST', agent, path: `${prefix}/invocation/${this.invocation.id}/response`,
      headers: {
        'Content-Type': this.contentType, 'Transfer-Encoding': 'chunked', 'Lambda-Runtime-Function-Response-Mode': 'streaming',
        Trailer: 'Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body',
      },
    }, (res) => {
      res.resume();
      res.on('end', () => (res.statusCode === 202 ? this.resolveAnswer() : process.exit(1)));
    });
    this.req.on('error', (e) => this.rejectAnswer(e));
    if (this.prelude) this.req.write(this.prelude);
  }

  _write(chunk, encoding, done) {
    this.open();
    if (this.req.write(chunk)) done();
    else this.req.once('drain', done);
  }

  _final(done) {
    this.open();
    this.req.end();
    done();
  }

  // fail ends the answer with an error, in trailers if a part of it is on its way.
  async fail(doc) {
    if (!this.req) {
      await post(`/invocation/${this.invocation.id}/error`, JSON.stringify(doc), errorHeaders(doc));
    } else if (!this.req.writableEnded) {
      this.req.addTrailers({
        'Lambda-Runtime-Function-Error-Type': doc.errorType.replace(/[^\x21-\x7e]/g, '_'),
        'Lambda-Runtime-Function-Error-Body': Buffer.from(JSON.stringify(doc)).toString('base64'),
      });
      this.req.end();
      await this.answered;
    }
    this.destroy();
  }
}

globalThis.awslambda = {
  streamifyResponse(handler, options) {
    handler[streaming] = true;
    if (options && Number.isInteger(options.highWaterMark)) handler[highWaterMark] = options.highWaterMark;
    return handler;
  },
  HttpResponseStream: {
    // from makes the answer one of HTTP: status and headers as JSON, eight zero bytes, the body.
    from(stream, metadata) {
      stream.setContentType('application/vnd.awslambda.http-integration-response');
      stream.prelude = Buffer.concat([Buffer.from(JSON.stringify(metadata)), Buffer.alloc(8)]);
      return stream;
    },
  },
};

// ---- the handler

async function loadModule(root, name) {
  const file = path.resolve(root, name);
  if (fs.existsSync(file) && fs.statSync(file).isFile()) return require(file);
  for (const ext of ['.js', '.mjs', '.cjs']) {
    if (!fs.existsSync(file + ext)) continue;
    if (ext === '.mjs' || (ext === '.js' && isModule(path.dirname(file)))) return import(pathToFileURL(file + ext).href);
    return require(file + ext);
  }
  return require(require.resolve(name, { paths: [root, path.dirname(file)] }));
}

// isModule tells whether .js files in a folder are ES modules: the nearest package.json says so.
function isModule(dir) {
  for (let d = dir; ; d = path.dirname(d)) {
    const file = path.join(d, 'package.json');
    if (fs.existsSync(file)) {
      try {
        return JSON.parse(fs.readFileSync(file, 'utf8')).type === 'module';
      } catch {
        return false;
      }
    }
    if (d === path.dirname(d)) return false;
  }
}

async function loadHandler(root, full) {
  if (full.includes('..')) {
    throw new RuntimeError('Runtime.MalformedHandlerName', `'${full}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`);
  }
  const base = path.basename(full);
  const dot = base.indexOf('.');
  if (dot < 1 || dot === base.length - 1) throw new RuntimeError('Runtime.MalformedHandlerName', 'Bad handler');
  let at;
  try {
    at = await loadModule(root, path.join(path.dirname(full), base.slice(0, dot)));
  } catch (e) {
    if (e instanceof SyntaxError) throw new RuntimeError('Runtime.UserCodeSyntaxError', String(e));
    if (e && ['MODULE_NOT_FOUND', 'ERR_MODULE_NOT_FOUND'].includes(e.code)) throw new RuntimeError('Runtime.ImportModuleError', String(e));
    throw e;
  }
  const steps = base.slice(dot + 1).split('.');
  let found = steps.reduce((o, k) => (o == null ? undefined : o[k]), at);
  if (found === undefined && at && at.default) found = steps.reduce((o, k) => (o == null ? undefined : o[k]), at.default);
  if (found === undefined || found === null) throw new RuntimeError('Runtime.HandlerNotFound', `${full} is undefined or not exported`);
  if (typeof found !== 'function') throw new RuntimeError('Runtime.HandlerNotFound', `${full} is not a function`);
  return found;
}

// ---- invocations

// Invocation is one event until it is answered, which happens once.
class Invocation {
  constructor(headers, body) {
    this.id = headers['lambda-runtime-aws-request-id'];
    this.deadline = Number(headers['lambda-runtime-deadline-ms']);
    this.headers = headers;
    this.event = body;
    this.completed = false;
    this.promised = false; // the handler returned a promise
    this.onIdle = null; // what to answer when nothing is left to do
    this.stream = null;
    this.over = new Promise((resolve) => {
      this.finish = resolve;
    });
  }

  async succeed(value) {
    if (this.completed) return;
    this.completed = true;
    let body;
    try {
      body = JSON.stringify(value === undefined ? null : value);
      if (body === undefined) body = 'null'; // a function, a symbol
    } catch (e) {
      this.completed = false;
      return this.fail(new RuntimeError('Runtime.MarshalError', `Unable to stringify response body: ${isError(e) ? e.message : e}`));
    }
    await post(`/invocation/${this.id}/response`, body);
    this.finish();
  }

  async fail(e) {
    if (this.completed) return;
    this.completed = true;
    line('ERROR', `Invoke Error \t${loggable(e)}`);
    const doc = errorDocument(e);
    if (this.stream) await this.stream.fail(doc);
    else await post(`/invocation/${this.id}/error`, JSON.stringify(doc), errorHeaders(doc));
    this.finish();
  }

  context() {
    const env = process.env;
    const parse = (name) => (this.headers[name] ? JSON.parse(this.headers[name]) : undefined);
    const context = {
      callbackWaitsForEmptyEventLoop: true,
      functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
      functionName: env.AWS_LAMBDA_FUNCTION_NAME,
      memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
      logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
      logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
      clientContext: parse('lambda-runtime-client-context'),
      identity: parse('lambda-runtime-cognito-identity'),
      tenantId: this.headers['lambda-runtime-aws-tenant-id'],
      invokedFunctionArn: this.headers['lambda-runtime-invoked-function-arn'],
      awsRequestId: this.id,
      getRemainingTimeInMillis: () => this.deadline - Date.now(),
    };
    const callback = (e, value) => {
      if (this.completed || this.onIdle) return;
      if (e !== null && e !== undefined) {
        this.fail(e);
      } else if (context.callbackWaitsForEmptyEventLoop) {
        this.onIdle = () => this.succeed(value);
      } else {
        this.succeed(value);
      }
    };
    context.done = (e, value) => {
      context.callbackWaitsForEmptyEventLoop = false;
      callback(e, value);
    };
    context.succeed = (value) => context.done(null, value);
    context.fail = (e) => context.done(e === undefined || e === null ? 'handled' : e);
    return { context, callback };
  }

  // idle is called when the event loop has nothing left to do.
  idle() {
    if (this.completed) return;
    if (this.onIdle) {
      this.onIdle();
    } else if (this.promised) {
      this.fail(new RuntimeError('Runtime.NodeJsExit',
        'The Lambda runtime client detected an unexpected Node.js exit. This is most commonly caused by a Promise that was never settled. For more information, see https://nodejs.org/docs/latest/api/process.html#exit-codes'));
    } else {
      this.succeed(null); // the handler neither returned anything nor called back
    }
  }

  async run(handler) {
    let event;
    try {
      event = JSON.parse(this.event.toString('utf8'));
    } catch (e) {
      return this.fail(e);
    }
    const { context, callback } = this.context();
    try {
      if (handler[streaming]) return await this.runStream(handler, event, context);
      const result = handler(event, context, callback);
      if (result && typeof result.then === 'function') {
        this.promised = true;
        result.then((value) => this.succeed(value), (e) => this.fail(e)).catch(fatal);
      } else if (result !== undefined && handler.length < 3) {
        this.succeed(result).catch(fatal); // a plain function that returns its answer
      }
    } catch (e) {
      return this.fail(e);
    }
  }

  async runStream(handler, event, context) {
    this.promised = true;
    this.stream = new ResponseStream(this, handler[highWaterMark]);
    const ended = new Promise((resolve, reject) => {
      this.stream.once('finish', resolve);
      this.stream.once('error', reject);
    });
    ended.catch(() => {});
    await handler(event, this.stream, context);
    await ended;
    await this.stream.answered;
    if (this.completed) return;
    this.completed = true;
    this.finish();
  }
}

function fatal(e) {
  process.stderr.write(`the Runtime API cannot be reached: ${e}\n`);
  process.exit(1);
}

// crash reports an error that nobody caught, and ends the process as Lambda does.
async function crash(type, e, code) {
  if (crashing) return;
  crashing = true;
  process.removeAllListeners('beforeExit');
  try {
    line('ERROR', `${type} \t${loggable(e)}`);
    const doc = errorDocument(e);
    if (type === 'Unhandled Promise Rejection') {
      doc.errorType = 'Runtime.UnhandledPromiseRejection';
      doc.errorMessage = isError(e) ? e.toString() : String(e);
    }
    if (!current) {
      await post('/init/error', JSON.stringify(doc), errorHeaders(doc));
    } else if (!current.completed) {
      current.completed = true;
      if (current.stream) await current.stream.fail(doc);
      else await post(`/invocation/${current.id}/error`, JSON.stringify(doc), errorHeaders(doc));
    }
  } finally {
    process.exit(code);
  }
}

async function main() {
  patchConsole();
  process.on('uncaughtException', (e) => crash('Uncaught Exception', e, 129));
  process.on('unhandledRejection', (e) => crash('Unhandled Promise Rejection', e, 128));
  process.on('beforeExit', () => current && current.idle());
  let handler;
  try {
    handler = await loadHandler(process.env.LAMBDA_TASK_ROOT, process.env._HANDLER);
  } catch (e) {
    if (crashing) return;
    crashing = true;
    const doc = errorDocument(e);
    await post('/init/error', JSON.stringify(doc), errorHeaders(doc));
    process.exit(1);
  }
  await new Promise(setImmediate); // promises that were rejected while loading are noticed first
  while (!crashing) {
    const { status, headers, body } = await call('GET', '/invocation/next', {});
    if (crashing) return;
    if (status !== 200) fatal(`GET next: ${status} ${body}`);
    current = new Invocation(headers, body);
    requestId = current.id;
    if (headers['lambda-runtime-trace-id']) process.env._X_AMZN_TRACE_ID = headers['lambda-runtime-trace-id'];
    current.run(handler).catch(fatal);
    await current.over;
  }
}

main().catch(fatal);
