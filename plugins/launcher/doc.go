// Package launcher runs recipes as processes of their own: it starts them, looks
// after them, and gives a host one recipe.Recipe for each, which is all that the
// host ever sees of them.
//
//	l := launcher.New(launcher.Config{RunDir: dir})
//	p, err := l.Plugin(spec)     // checks; runs nothing
//	h, err := host.New(cfg, host.WithRecipe(p))
//
// # The life of a process
//
//  1. The program's SHA-256 is compared with what was added.
//  2. It is started: in a process group of its own, with an environment that has
//     nothing of the host's, a standard input that ends when the host does, and a
//     fresh pair of keys for mutual TLS.
//  3. It prints one line that says where it can be reached, in a folder that
//     nobody else can enter, and is sent its configuration and its share of etcd,
//     which is guarded as it is in the host's own process.
//  4. It serves. Calls go to it as frames that nobody decodes on the way.
//  5. It is asked every 10 seconds whether it is well.
//  6. It ends its calls, closes the recipe and ends.
//
// # When it fails
//
// A process that ends by itself is started again: the first time at once, then
// after pauses that grow from 100 ms to 30 s, until it has been ready for a
// minute. Calls that arrive meanwhile are held for a moment, those that were under
// way are told to come again; what their callers own stands, since it is bound to
// their sessions. Five crashes within five minutes, or a failure that another
// start cannot mend, put it in quarantine, with the last 64 KiB of what it wrote.
//
// # What the host is safe from
//
// The process chooses what it prints, answers and logs. None of it can end the
// host, fill its memory or its log, or make it call another address. Its share of
// etcd is its own keys. It can waste processor time: that is for the limits of the
// system that it runs on.
package launcher
