package host

import (
	"crypto/tls"
	"log/slog"
	"os"
	"strings"

	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/core/host/status"
	"github.com/conclavehq/conclave/internal/tlsfiles"
)

// TLS names certificate files, in PEM. For a listener Cert and Key are its own
// and CA, if given, signs the callers' certificates, which are then required;
// for a client CA signs the servers'. Files that change count from the next
// connection on; of the embedded member's listeners, and of clients, all but the CA.
type TLS struct {
	// Cert is the file of one's own certificate, and of what leads to its authority.
	Cert string `json:"cert"`
	// Key is the file of the certificate's private key, which not every user of the
	// machine may read.
	Key string `json:"key"`
	// CA is the file of the authorities that sign the other side's certificates.
	CA string `json:"ca"`
	// MinVersion is the oldest version of TLS that is spoken, "1.2" or "1.3".
	// Default "1.3".
	MinVersion string `json:"min_version"`
}

func (t TLS) enabled() bool { return t != TLS{} }

func (t TLS) files() tlsfiles.Files {
	f := tlsfiles.Files{Cert: t.Cert, Key: t.Key, CA: t.CA}
	if t.MinVersion == "1.2" {
		f.MinVersion = tls.VersionTLS12
	}
	return f
}

func (t TLS) member() embedded.TLS { return embedded.TLS{Cert: t.Cert, Key: t.Key, CA: t.CA} }

// check looks at what is given, and at no file.
func (t TLS) check(field string) error {
	if (t.Cert == "") != (t.Key == "") {
		return configError(field, "cert and key go together")
	}
	return oneOf(field+".min_version", t.MinVersion, "", "1.2", "1.3")
}

// checkListener is check for a listener, which has a certificate if it has anything.
func (t TLS) checkListener(field string) error {
	if err := t.check(field); err != nil {
		return err
	}
	if t.enabled() && t.Cert == "" {
		return configError(field+".cert", "is empty, but callers' certificates are asked for")
	}
	return nil
}

// server returns the listener's TLS, or nil for plaintext.
func (t TLS) server(log *slog.Logger) (*tls.Config, error) {
	if !t.enabled() {
		return nil, nil //nolint:nilnil // no TLS is what was asked for
	}
	c, err := t.files().Server(log)
	if err != nil {
		return nil, configError("tls", "%w", err)
	}
	c.NextProtos = []string{"h2", "http/1.1"}
	return c, nil
}

// client returns the TLS of the host's own connections to an external etcd, or nil
// for plaintext.
func (t TLS) client(log *slog.Logger) (*tls.Config, error) {
	if !t.enabled() {
		return nil, nil //nolint:nilnil // no TLS is what was asked for
	}
	c, err := t.files().Client(log)
	if err != nil {
		return nil, configError("etcd.tls", "%w", err)
	}
	return c, nil
}

// checkListeners refuses plaintext on an address that other machines reach.
func (c Config) checkListeners() error {
	for _, l := range []struct {
		field, addr, secret string
		tls                 TLS
	}{
		{"api.listen", firstOf(c.API.Listen, DefaultListen), "tls", c.TLS},
		{"etcd.listen_client", c.Etcd.ListenClient, "etcd.client_tls", c.Etcd.ClientTLS},
		{"etcd.listen_peer", c.Etcd.listenPeer(c.Name), "etcd.peer_tls", c.Etcd.PeerTLS},
	} {
		if err := l.tls.checkListener(l.secret); err != nil {
			return err
		}
		if l.addr == "" || reachesSelfOnly(l.addr) || c.API.InsecureListen {
			continue
		}
		if l.tls.enabled() {
			if l.tls.CA == "" && (l.secret != "tls" || c.Auth.Callers == "") {
				return configError(l.field, "%s is reachable from other machines, and nobody asks who calls: give %s", l.addr, whoCalls(l.secret))
			}
			continue
		}
		return configError(l.field, "%s is reachable from other machines: give %s.cert and %s.key, or say api.insecure_listen", l.addr, l.secret, l.secret)
	}
	if c.Etcd.PeerTLS.enabled() && c.Etcd.PeerTLS.CA == "" {
		return configError("etcd.peer_tls.ca", "is empty: members ask each other for certificates")
	}
	if a, b := c.Etcd.ClientTLS, c.Etcd.PeerTLS; a.enabled() && b.enabled() && a.MinVersion != b.MinVersion {
		return configError("etcd.peer_tls.min_version", "is another than etcd.client_tls.min_version; etcd has one for both")
	}
	return nil
}

// whoCalls says what asks who calls at a listener.
func whoCalls(secret string) string {
	if secret == "tls" {
		return "auth.callers or tls.ca, or say api.insecure_listen"
	}
	return secret + ".ca, or say api.insecure_listen"
}

// password is the host's at etcd, read from its file if it has one.
func (e Etcd) password() (string, error) {
	if e.PasswordFile == "" {
		return e.Password, nil
	}
	if err := tlsfiles.Private(e.PasswordFile); err != nil {
		return "", configError("etcd.password_file", "%w", err)
	}
	b, err := os.ReadFile(e.PasswordFile)
	if err != nil {
		return "", configError("etcd.password_file", "%w", err)
	}
	line := strings.TrimRight(string(b), "\r\n")
	if line == "" || strings.ContainsAny(line, "\r\n") {
		return "", configError("etcd.password_file", "%s: holds %d lines; a password is one that is not empty", e.PasswordFile, len(strings.Fields(line)))
	}
	return line, nil
}

// certificates tells how long the host's certificates are good.
func (c Config) certificates() []status.Certificate {
	var all []status.Certificate
	for _, t := range []struct {
		field string
		tls   TLS
	}{{"tls", c.TLS}, {"etcd.tls", c.Etcd.TLS}, {"etcd.client_tls", c.Etcd.ClientTLS}, {"etcd.peer_tls", c.Etcd.PeerTLS}} {
		if t.tls.Cert == "" {
			continue
		}
		at, err := t.tls.files().Expires()
		all = append(all, status.Certificate{Field: t.field, File: t.tls.Cert, Expires: at, Err: err})
	}
	return all
}
