package tlsfiles

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"

	"google.golang.org/grpc/credentials"
)

// Loopback returns the credentials of a client in the server's own process, with the
// server's files, which it follows: it shows the server's certificate where one is
// asked for, and trusts whoever shows the same one, so that no name in it has to stand
// for loopback. Of others it asks for a certificate of the CA, or of one that the system
// trusts if there is none, for the host that was dialled.
func (f Files) Loopback(log *slog.Logger) (credentials.TransportCredentials, error) {
	s, err := newSource(f, log)
	if err != nil {
		return nil, err
	}
	base := &tls.Config{
		MinVersion:           f.minVersion(), //nolint:gosec // at least what was asked for
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.now().cert, nil },
		InsecureSkipVerify:   true, //nolint:gosec // ClientHandshake verifies
	}
	return &loopback{credentials.NewTLS(base), base, s}, nil
}

type loopback struct {
	credentials.TransportCredentials // for what they say of themselves

	base *tls.Config
	from *source
}

// ClientHandshake implements credentials.TransportCredentials.
func (c *loopback) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	host := authority
	if h, _, err := net.SplitHostPort(authority); err == nil {
		host = h
	}
	cfg := c.base.Clone()
	// Not state.ServerName, which crypto/tls leaves empty for an IP address.
	cfg.VerifyConnection = func(state tls.ConnectionState) error { return verify(state, host, c.from.now()) }
	return credentials.NewTLS(cfg).ClientHandshake(ctx, authority, conn)
}

// Clone implements credentials.TransportCredentials.
func (c *loopback) Clone() credentials.TransportCredentials { return c }

// verify trusts the certificate that is one's own, and does for others what crypto/tls
// does for a client.
func verify(state tls.ConnectionState, host string, own *loaded) error {
	shown := state.PeerCertificates
	if len(shown) == 0 || host == "" {
		return errors.New("there is no certificate, or no host for it to be of")
	}
	if bytes.Equal(shown[0].Raw, own.cert.Certificate[0]) {
		return nil
	}
	o := x509.VerifyOptions{Roots: own.pool, DNSName: host, Intermediates: x509.NewCertPool()}
	for _, c := range shown[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err := shown[0].Verify(o)
	return err
}
