//go:build !unix

package queue_test

// children are the functions that run as processes of their own: none where
// processes cannot be killed.
func children() map[string]func() int { return nil }
