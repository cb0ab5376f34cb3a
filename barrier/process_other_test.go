//go:build !unix

package barrier_test

// children are the functions that run as processes of their own: none where
// processes cannot be killed by the test.
func children() map[string]func() int { return nil }
