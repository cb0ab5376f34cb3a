// Package wire is what a host and the process of a plugin agree on before they
// speak: the handshake, the environment, and the certificates of mutual TLS.
package wire

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
)

// Protocol is the version of the protocol of control.proto.
const Protocol = 1

// Name is the one thing that a process dispenses.
const Name = "recipe"

// The environment of a process. ClientCert is go-plugin's name.
const (
	EnvCookie     = "CONCLAVE_PLUGIN"      // has the value Cookie
	EnvCert       = "CONCLAVE_PLUGIN_CERT" // the process's certificate, PEM
	EnvKey        = "CONCLAVE_PLUGIN_KEY"  // its private key, PEM
	EnvClientCert = "PLUGIN_CLIENT_CERT"   // the host's certificate, PEM

	Cookie = "recipe"
)

// Handshake tells a process that it was started by a host.
func Handshake() goplugin.HandshakeConfig {
	return goplugin.HandshakeConfig{ProtocolVersion: Protocol, MagicCookieKey: EnvCookie, MagicCookieValue: Cookie}
}

// serverName is the name in every certificate: sockets have none of their own.
const serverName = "localhost"

// validity outlasts every process. The pair is made for one start, and is gone
// with it.
const validity = 30 * 365 * 24 * time.Hour

// A Pair is a certificate that signs itself, with its key.
type Pair struct {
	Cert []byte // PEM
	Key  []byte // PEM
	tls  tls.Certificate
}

// NewPair makes a pair on P-256, which every TLS library knows.
func NewPair() (*Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: serverName, Organization: []string{"Conclave"}}, DNSNames: []string{serverName},
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(validity),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IsCA:        true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return Parse(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}

// Parse reads a pair.
func Parse(cert, key []byte) (*Pair, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return &Pair{Cert: cert, Key: key, tls: pair}, nil
}

// TLS returns the configuration with which the pair's owner serves and dials its
// peer, and nobody else.
func (p *Pair) TLS(peer []byte) (*tls.Config, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(peer) {
		return nil, errors.New("certificate of the other side: is none")
	}
	return &tls.Config{
		Certificates: []tls.Certificate{p.tls}, ServerName: serverName, MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, RootCAs: pool,
	}, nil
}
