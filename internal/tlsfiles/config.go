package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
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

// Client returns a client's configuration that follows the files. The error is
// that of [Files.Check].
func (f Files) Client(log *slog.Logger) (*tls.Config, error) {
	s, err := newSource(f, log)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: f.minVersion()} //nolint:gosec // at least what was asked for
	if s.last.cert != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.now().cert, nil }
	}
	if s.last.pool != nil {
		// Roots of a configuration are fixed, so that the verification is done here.
		c.InsecureSkipVerify = true //nolint:gosec // VerifyConnection verifies
		c.VerifyConnection = func(state tls.ConnectionState) error { return verify(state, s.now().pool) }
	}
	return c, nil
}

// verify does what crypto/tls does for a client, with roots of the moment.
func verify(state tls.ConnectionState, roots *x509.CertPool) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the server shows no certificate")
	}
	o := x509.VerifyOptions{Roots: roots, DNSName: state.ServerName, Intermediates: x509.NewCertPool()}
	for _, c := range state.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err := state.PeerCertificates[0].Verify(o)
	return err
}
