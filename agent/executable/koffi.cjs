// Stands for koffi.cjs in the executable, where koffi's library is a part of the file and the dynamic loader takes files only. It is
// written into one that never has a name (O_TMPFILE) and loaded through its descriptor: nobody can lay another in its place, and
// nothing stays behind, however this process ends.
'use strict';
const { closeSync, constants, lstatSync, openSync, writeFileSync } = require('node:fs');
const { getRawAsset } = require('node:sea');

/** In each of them somewhere nothing may be loaded (noexec): /run on Ubuntu, /dev/shm in containers, /tmp where it was hardened. */
const DIRECTORIES = ['/run', '/dev/shm', '/tmp', '/var/tmp'];
/** Node has no name for it. The other half is O_DIRECTORY, whose number differs between machines. */
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;

load();

function load() {
  const refused = [];
  for (const directory of DIRECTORIES) {
    try {
      return loadFrom(directory);
    } catch (error) {
      refused.push(`${directory}: ${error.message}`);
    }
  }
  throw new Error(`no directory to load koffi's library from; one of these is needed, of root's and without noexec. ${refused.join('; ')}`);
}

function loadFrom(directory) {
  trust(lstatSync(directory));
  // O_EXCL: nor can it be given a name.
  const file = openSync(directory, O_TMPFILE | constants.O_RDWR | constants.O_EXCL | constants.O_NOFOLLOW, 0o600);
  try {
    writeFileSync(file, Buffer.from(getRawAsset('koffi.node')));
    process.dlopen(module, `/proc/self/fd/${file}`);
  } finally {
    closeSync(file);
  }
}

/** FUSE lets whoever owns a directory, or may write in one that is not sticky, mount a file system there that reads as they like. */
function trust(directory) {
  if (!directory.isDirectory()) throw new Error('no directory');
  if (directory.uid !== 0 && directory.uid !== process.geteuid()) throw new Error(`belongs to user ${directory.uid}`);
  if ((directory.mode & 0o022) !== 0 && (directory.mode & 0o1000) === 0) throw new Error('others may write there');
}
