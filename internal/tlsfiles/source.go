package tlsfiles

import (
	"crypto/tls"
	"log/slog"
	"os"
	"sync"
	"time"
)

// A source follows files.
type source struct {
	files Files
	log   *slog.Logger

	mu     sync.Mutex
	seen   [3]stamp    // of what was last read, usable or not
	last   *loaded     // what was last usable
	server *tls.Config // made of last; nil: not yet
}

// A stamp tells one state of a file from the next.
type stamp struct {
	at   time.Time
	size int64
}

func newSource(f Files, log *slog.Logger) (*source, error) {
	s := &source{files: f, log: log, seen: f.stamps()}
	var err error
	s.last, err = f.load()
	return s, err
}

func (f Files) stamps() [3]stamp {
	var all [3]stamp
	for i, name := range []string{f.Cert, f.Key, f.CA} {
		if name == "" {
			continue
		}
		if info, err := os.Stat(name); err == nil {
			all[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return all
}

// now returns what the files hold, or what they held when they were last usable.
func (s *source) now() *loaded {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.follow()
	return s.last
}

// follow reads the files if they have changed. The caller holds s.mu.
func (s *source) follow() {
	found := s.files.stamps() // before reading: a change in between is seen by the next call
	if found == s.seen {
		return
	}
	s.seen = found
	l, err := s.files.load()
	if err != nil {
		s.log.Error("the changed TLS files cannot be used; the former ones still count", "error", err)
		return
	}
	s.last, s.server = l, nil
	s.log.Info("TLS files read anew", "cert", s.files.Cert, "ca", s.files.CA, "expires", l.expires)
}

// config returns a server's configuration with what the files hold, the same one
// until they change: sessions are resumed with the configuration that began them.
func (s *source) config() *tls.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.follow()
	if s.server == nil {
		s.server = s.last.server(s.files.minVersion())
	}
	return s.server
}

func (l *loaded) server(minVersion uint16) *tls.Config {
	c := &tls.Config{MinVersion: minVersion, Certificates: []tls.Certificate{*l.cert}} //nolint:gosec // at least what was asked for
	if l.pool != nil {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, l.pool
	}
	return c
}
