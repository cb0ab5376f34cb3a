package embedded

import (
	"log/slog"
	"net/url"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/tlsutil"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc/credentials"

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

// loopbackTLS is for the member's client of its own listener, through which it also asks other members; nil for plaintext.
func (m *Member) loopbackTLS() (credentials.TransportCredentials, error) {
	info := m.server.config.ClientTLSInfo
	if info.Empty() || m.scheme() == "http://" {
		return nil, nil //nolint:nilnil // plaintext is what there is
	}
	log := m.cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	files := tlsfiles.Files{Cert: info.CertFile, Key: info.KeyFile, CA: info.TrustedCAFile}
	if info.ClientCertFile == "" {
		return files.Loopback(log)
	}
	// A file of upstream's may name a certificate for this process's own calls.
	files.Cert, files.Key = info.ClientCertFile, info.ClientKeyFile
	secret, err := files.Client(log)
	if err != nil {
		return nil, err
	}
	return credentials.NewTLS(secret), nil
}

func secured(addr string, t TLS) []url.URL { return []url.URL{{Scheme: t.scheme(), Host: addr}} }
