package tlsfiles

import (
	"bytes"
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

// Loopback returns a configuration for a client in the server's own process, with
// the server's files: it shows the server's certificate where one is asked for,
// and trusts whoever shows the same one, so that no name in it has to stand for
// loopback. Others it trusts as [Files.Client] does.
func (f Files) Loopback(log *slog.Logger) (*tls.Config, error) {
	s, err := newSource(f, log)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:           f.minVersion(), //nolint:gosec // at least what was asked for
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.now().cert, nil },
		InsecureSkipVerify:   true, //nolint:gosec // VerifyConnection verifies
		VerifyConnection: func(state tls.ConnectionState) error {
			l := s.now()
			if len(state.PeerCertificates) > 0 && bytes.Equal(state.PeerCertificates[0].Raw, l.cert.Certificate[0]) {
				return nil
			}
			return verify(state, l.pool)
		},
	}, nil
}

// verify does what crypto/tls does for a client, with roots of the moment; nil:
// the system's.
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
