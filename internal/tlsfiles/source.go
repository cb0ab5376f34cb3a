package tlsfiles

import (
	"crypto/tls"
	"io/fs"
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
	broken string      // why that is not usable; empty: it is
	again  time.Time   // from when on it is read again all the same
	last   *loaded     // what was last usable
	server *tls.Config // made of last; nil: not yet
}

// A stamp tells one state of a file from the next. The mode is of it: whoever mends the
// permissions of a key changes neither its time nor its size.
type stamp struct {
	at   time.Time
	size int64
	mode fs.FileMode
}

// patience is how long files that could not be used are left alone. Not everything that
// mends them shows in a stamp: an owner does not, nor an access list.
const patience = time.Second

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
			all[i] = stamp{info.ModTime(), info.Size(), info.Mode()}
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

// follow reads the files if they have changed, or were broken a moment ago. The caller
// holds s.mu.
func (s *source) follow() {
	found := s.files.stamps() // before reading: a change in between is seen by the next call
	if found == s.seen && (s.broken == "" || time.Now().Before(s.again)) {
		return
	}
	s.seen = found
	l, err := s.files.load()
	if err != nil {
		if s.broken != err.Error() {
			s.log.Error("the changed TLS files cannot be used; the former ones still count", "error", err)
		}
		s.broken, s.again = err.Error(), time.Now().Add(patience)
		return
	}
	s.last, s.server, s.broken = l, nil, ""
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
