// A command that shows what a component sees of its container: app COMMAND WORD …
// JavaScript has no library for files: these are the interfaces of WASI themselves.

import { getArguments, getEnvironment, initialCwd } from 'wasi:cli/environment@0.2.12';
import { exitWithCode } from 'wasi:cli/exit@0.2.12';
import { getStderr } from 'wasi:cli/stderr@0.2.12';
import { getStdin } from 'wasi:cli/stdin@0.2.12';
import { getStdout } from 'wasi:cli/stdout@0.2.12';
import { subscribeDuration } from 'wasi:clocks/monotonic-clock@0.2.12';
import { getDirectories } from 'wasi:filesystem/preopens@0.2.12';

const HOUR = 3_600_000_000_000n;

/** Writes all bytes: a stream takes 4096 at once. */
function writeTo(stream, bytes) {
  for (let at = 0; at < bytes.length; at += 4096) {
    stream.blockingWriteAndFlush(bytes.subarray(at, at + 4096));
  }
}

const print = (text) => writeTo(getStdout(), new TextEncoder().encode(text));

/** Every chunk of a stream, to its end. */
function* chunks(stream) {
  for (;;) {
    try {
      yield stream.blockingRead(65536n);
    } catch (error) {
      if (error.payload?.tag === 'closed') return;
      throw error;
    }
  }
}

/** Opens a file beneath the preopen that leads to it: here that is the root. */
function open(path, openFlags, flags) {
  const [root] = getDirectories().find(([, name]) => name === '/');
  return root.openAt({ symlinkFollow: true }, path.replace(/^\/+/, ''), openFlags, flags);
}

const commands = {
  show(...words) {
    const greeting = getEnvironment().find(([name]) => name === 'GREETING');
    print(`arguments: ${words.join(' ')}\ngreeting: ${greeting?.[1] ?? ''}\n`);
    print(`directory: ${initialCwd() ?? ''}\n`);
  },
  read(path) {
    for (const chunk of chunks(open(path, {}, { read: true }).readViaStream(0n))) {
      writeTo(getStdout(), chunk);
    }
  },
  write(path, text) {
    const file = open(path, { create: true }, { write: true });
    writeTo(file.appendViaStream(), new TextEncoder().encode(`${text}\n`));
  },
  copy() {
    for (const chunk of chunks(getStdin())) writeTo(getStdout(), chunk);
  },
  code(number) {
    return Number(number);
  },
  allocate(mebibytes) {
    const held = [];
    for (let count = 0; count < Number(mebibytes); count++) held.push(new Uint8Array(1 << 20));
    print(`allocated: ${held.length}\n`);
  },
  wait() {
    print('ready\n');
    for (;;) subscribeDuration(HOUR).block();
  },
};

/** What the component exports: wasi:cli/run. */
export const run = {
  run() {
    const [, name = '', ...words] = getArguments();
    // What every object has, such as a constructor, is no command.
    if (!Object.hasOwn(commands, name)) {
      const usage = `usage: app ${Object.keys(commands).join('|')} [WORD ...]\n`;
      writeTo(getStderr(), new TextEncoder().encode(usage));
      exitWithCode(2);
    }
    let status = 0;
    try {
      status = commands[name](...words) ?? 0;
    } catch (error) {
      writeTo(getStderr(), new TextEncoder().encode(`${error.payload ?? error}\n`));
      status = 1;
    }
    exitWithCode(status);
  },
};
