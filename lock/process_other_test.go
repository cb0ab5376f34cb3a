//go:build !unix

package lock_test

// children are the functions that run as processes of their own: none where
// processes cannot be paused.
func children() map[string]func() int { return nil }
