package tlsfiles

import (
	"crypto/tls"
	"errors"
	"log/slog"
)

// Server returns a server's configuration that follows the files. The error is
// that of [Files.Check].
func (f Files) Server(log *slog.Logger) (*tls.Config, error) {
	s, err := newSource(f, log)
	if err != nil {
		return nil, err
	}
	if s.last.cert == nil {
		return nil, errors.New("a server needs a certificate")
	}
	c := s.last.server(f.minVersion())
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.config(), nil }
	return c, nil
}

// Client returns a client's configuration that follows the files, but for the CA:
// what that held when it was made counts. The error is that of [Files.Check].
func (f Files) Client(log *slog.Logger) (*tls.Config, error) {
	s, err := newSource(f, log)
	if err != nil {
		return nil, err
	}
	// Roots that follow the file would have to be looked up in VerifyConnection, which
	// is not told the address that was dialled if that is an IP address: it could not
	// tell whether the certificate is for it.
	c := &tls.Config{MinVersion: f.minVersion(), RootCAs: s.last.pool} //nolint:gosec // at least what was asked for
	if s.last.cert != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.now().cert, nil }
	}
	return c, nil
}
