package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"
)

// Files names PEM files. For a server Cert and Key are its own, and CA, if given,
// signs its callers' certificates, which are then required; for a client CA signs
// the servers', and Cert and Key, if given, are its own.
type Files struct {
	Cert, Key, CA string
	// MinVersion is the oldest version of TLS that is spoken. Zero: 1.3.
	MinVersion uint16
}

// Check reads the files. The error names the file and what is wrong with it.
func (f Files) Check() error {
	_, err := f.load()
	return err
}

// Expires returns when the certificate, or the first one that leads to its
// authority, is no longer valid.
func (f Files) Expires() (time.Time, error) {
	l, err := f.load()
	if err != nil {
		return time.Time{}, err
	}
	return l.expires, nil
}

func (f Files) minVersion() uint16 {
	if f.MinVersion == 0 {
		return tls.VersionTLS13
	}
	return f.MinVersion
}

// loaded is what the files held at one moment.
type loaded struct {
	cert    *tls.Certificate // nil: none is named
	pool    *x509.CertPool   // nil: none is named
	expires time.Time
}

func (f Files) load() (*loaded, error) {
	l := new(loaded)
	if f.CA != "" {
		text, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, err
		}
		l.pool = x509.NewCertPool()
		if !l.pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s: holds no certificate in PEM", f.CA)
		}
	}
	if f.Cert == "" {
		return l, nil
	}
	if err := Private(f.Key); err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if _, missing := errors.AsType[*os.PathError](err); missing {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", f.Cert, f.Key, err)
	}
	l.cert = &pair
	for _, der := range pair.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Cert, err)
		}
		if l.expires.IsZero() || c.NotAfter.Before(l.expires) {
			l.expires = c.NotAfter
		}
	}
	return l, nil
}
