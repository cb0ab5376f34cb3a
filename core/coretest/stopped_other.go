//go:build unix && !linux

package coretest

// awaitStopped has no way here to wait for a stop without also consuming the child's end: the signal is sent, and takes effect at once.
func awaitStopped(int) error { return nil }
