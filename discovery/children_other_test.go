//go:build !unix

package discovery_test

// children are the processes of benchmarks, which need unix.
func children() map[string]func() int { return nil }
