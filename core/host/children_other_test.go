//go:build !unix

package host_test

func children() map[string]func() int { return nil }
