// Package embedded runs an etcd member inside this process and hands back an ordinary [clientv3.Client] for it.
//
// It is upstream's own server, unchanged, with the edges of its embedding made safe: a start that waits until the member
// serves or says why it does not, a data directory that two processes cannot share, and a stop that always ends.
//
//	m, err := embedded.Start(ctx, embedded.Config{DataDir: "data"})
//	if err != nil {
//		return err
//	}
//	defer m.Close()
//	s, err := core.NewSession(ctx, m.Client())
//
// # Failure
//
// An embedded member shares its process's fate, in both directions. When the disk is full or a write to it fails, etcd ends the
// process: going on would break the promises it made to its cluster. [Config.OnFatal] runs first; deferred calls do not.
// The exit code is then [FatalExitCode], unless OnFatal ends the process itself.
//
// A member that stops for another reason, for instance because it was removed from its cluster, closes [Member.Done] and keeps
// the reason in [Member.Err]. It is not restarted.
//
// # Data
//
// The data directory belongs to one process at a time. Start takes a lock in it before etcd touches it, so that a second process
// fails at once instead of waiting for ever; the lock ends with the process, however it ends. Nothing in the directory is ever
// deleted or repaired beyond what etcd does itself with a log that ends in a torn write. The lock needs a file system with
// working locks: on a network file system it may not protect.
package embedded
