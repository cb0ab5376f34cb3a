//go:build unix

package tlsfiles

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conclavehq/conclave/internal/certs"
)

// renewed writes another certificate of the server, and returns a source that follows it
// and what that logs.
func renewed(t *testing.T, s *site) (from *source, next *certs.Pair, log *bytes.Buffer) {
	t.Helper()
	log = new(bytes.Buffer)
	from, err := newSource(s.files("server"), slog.New(slog.NewTextHandler(log, nil)))
	s.must(err)
	next = s.sign("server", certs.Request{Name: "server", Hosts: []string{"127.0.0.1"}, Server: true, Life: time.Hour})
	s.touch(time.Second)
	return from, next, log
}

func shows(s *source, want *certs.Pair) bool {
	return bytes.Equal(s.now().cert.Certificate[0], want.Cert.Raw)
}

// A key that nobody should read counts as soon as its mode is mended, which changes
// nothing else of the file.
func TestFilesCountOnceTheirModeIsMended(t *testing.T) {
	s := newSite(t)
	key := s.files("server").Key
	from, next, log := renewed(t, s)
	s.must(os.Chmod(key, 0o644))
	for range 3 {
		if shows(from, next) {
			t.Fatal("a key that everybody reads counts")
		}
	}
	if said := strings.Count(log.String(), "cannot be used"); said != 1 {
		t.Errorf("said %d times:\n%s", said, log)
	}
	s.must(os.Chmod(key, 0o600))
	if !shows(from, next) {
		t.Error("the new certificate does not count once its key is private")
	}
}

// What mends a file need not show in its time, its size or its mode.
func TestBrokenFilesAreReadAgain(t *testing.T) {
	s := newSite(t)
	key := s.files("server").Key
	from, next, log := renewed(t, s)
	good, err := os.ReadFile(key)
	s.must(err)
	s.must(os.WriteFile(key, bytes.Repeat([]byte("x"), len(good)), 0o600))
	s.touch(2 * time.Second)
	info, err := os.Stat(key)
	s.must(err)
	synctest.Test(t, func(t *testing.T) {
		if shows(from, next) {
			t.Fatal("a broken key counts")
		}
		s.must(os.WriteFile(key, good, 0o600))
		s.must(os.Chtimes(key, info.ModTime(), info.ModTime()))
		time.Sleep(patience)
		if !shows(from, next) {
			t.Errorf("the mended key does not count:\n%s", log)
		}
	})
}
