//go:build !unix

package catalog

import (
	"os"
	"testing"
)

func pipe(t *testing.T, path string) {
	t.Helper()
	must(t, os.Remove(path))
	must(t, os.Mkdir(path, 0o700))
}
