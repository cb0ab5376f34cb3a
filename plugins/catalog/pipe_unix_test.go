//go:build unix

package catalog

import (
	"os"
	"syscall"
	"testing"
)

func pipe(t *testing.T, path string) {
	t.Helper()
	must(t, os.Remove(path))
	must(t, syscall.Mkfifo(path, 0o600))
}
