package embedded

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/url"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/tlsutil"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/conclavehq/conclave/internal/tlsfiles"
)

// TLS names the PEM files that secure one of a member's listeners. A certificate and key that were renewed count from the next
// connection on; a new CA counts from the next start.
type TLS struct {
	// Cert and Key are the member's own. On the peers' listener the certificate is also shown to other members, so that it must be
	// good for both sides.
	Cert, Key string
	// CA signs the certificates that the other side must show. Empty: clients need none. Peers always do.
	CA string
}

func (t TLS) enabled() bool { return t != TLS{} }

func (t TLS) files() tlsfiles.Files { return tlsfiles.Files{Cert: t.Cert, Key: t.Key, CA: t.CA} }

func (t TLS) scheme() string {
	if t.enabled() {
		return "https"
	}
	return "http"
}

func (t TLS) upstream() transport.TLSInfo {
	return transport.TLSInfo{CertFile: t.Cert, KeyFile: t.Key, TrustedCAFile: t.CA, ClientCertAuth: t.CA != ""}
}

func (c Config) validateTLS() error {
	for field, t := range map[string]TLS{"ClientTLS": c.ClientTLS, "PeerTLS": c.PeerTLS} {
		switch {
		case !t.enabled():
			continue
		case t.Cert == "" || t.Key == "":
			return configError(field, "needs a certificate and its key")
		case field == "PeerTLS" && t.CA == "":
			return configError(field, "needs a CA: members ask each other for certificates")
		}
		if err := t.files().Check(); err != nil {
			return configError(field, "%v", err)
		}
	}
	switch c.TLSMinVersion {
	case "", "1.2", "1.3":
	default:
		return configError("TLSMinVersion", "%q is not one of 1.2, 1.3", c.TLSMinVersion)
	}
	for name, peer := range c.InitialCluster {
		if want := c.PeerTLS.scheme() + "://"; !strings.HasPrefix(peer, want) {
			return configError("InitialCluster", "%s: %s does not begin with %s, as PeerTLS asks", name, peer, want)
		}
	}
	if (c.Username == "") != (c.Password == "") {
		return configError("Username", "and Password go together")
	}
	return nil
}

// secure puts the listeners' TLS into upstream's configuration.
func (c Config) secure(e *embed.Config) {
	e.ClientTLSInfo, e.PeerTLSInfo = c.ClientTLS.upstream(), c.PeerTLS.upstream()
	e.TlsMinVersion = string(tlsutil.TLSVersion13)
	if c.TLSMinVersion == "1.2" {
		e.TlsMinVersion = string(tlsutil.TLSVersion12)
	}
}

// loopbackTLS is for the member's client of its own listener; nil for plaintext. The member knows its own certificate, so that it needs
// no name in it that stands for loopback; where clients are asked for certificates it shows the same.
func (m *Member) loopbackTLS() (*tls.Config, error) {
	info := m.server.config.ClientTLSInfo
	if info.Empty() {
		return nil, nil //nolint:nilnil // plaintext is what there is
	}
	files := tlsfiles.Files{Cert: info.CertFile, Key: info.KeyFile}
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} //nolint:gosec // VerifyConnection verifies
	own := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		return &pair, err
	}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own() }
	c.VerifyConnection = func(s tls.ConnectionState) error { return isOwn(s.PeerCertificates, own) }
	return c, nil
}

// isOwn says whether a server is this member.
func isOwn(shown []*x509.Certificate, own func() (*tls.Certificate, error)) error {
	pair, err := own()
	if err != nil {
		return err
	}
	if len(shown) == 0 || string(shown[0].Raw) != string(pair.Certificate[0]) {
		return errors.New("another process answers on the member's own address")
	}
	return nil
}

func secured(addr string, t TLS) []url.URL { return []url.URL{{Scheme: t.scheme(), Host: addr}} }
