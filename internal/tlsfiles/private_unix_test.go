//go:build unix

package tlsfiles

import (
	"os"
	"strings"
	"testing"
)

func TestKeyThatEverybodyReadsIsRefused(t *testing.T) {
	s := newSite(t)
	f := s.files("server")
	s.must(os.Chmod(f.Key, 0o644))
	if err := f.Check(); err == nil || !strings.Contains(err.Error(), "chmod 600 "+f.Key) {
		t.Errorf("got %v", err)
	}
	s.must(os.Chmod(f.Key, 0o640))
	if err := f.Check(); err != nil {
		t.Errorf("a group may read its key: %v", err)
	}
}
