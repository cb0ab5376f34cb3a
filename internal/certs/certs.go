// Package certs makes an authority and certificates for development and tests.
//
// The keys are ECDSA on P-256. What is made here lives for days or weeks and has
// no list of revoked certificates: it replaces plaintext on the machines of a
// team, not a real authority.
package certs

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
	"net"
	"os"
	"time"
)

// skew is how far clocks of machines may lie apart.
const skew = 5 * time.Minute

// A Pair is a certificate and its private key.
type Pair struct {
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
}

// A Request says what a certificate is for.
type Request struct {
	Name  string   // the common name; etcd's user, for a client
	Hosts []string // names and addresses under which a server is reached
	// Server and Client say for which sides of a connection it is good. A member
	// of a cluster is both.
	Server, Client bool
	Life           time.Duration
}

// NewAuthority makes an authority that signs for life.
func NewAuthority(name string, life time.Duration) (*Pair, error) {
	t, err := template(name, life)
	if err != nil {
		return nil, err
	}
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLenZero = true, true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return create(t, t, key, key)
}

// Sign makes a certificate that the authority p has signed. It ends no later than
// the authority does.
func (p *Pair) Sign(r Request) (*Pair, error) {
	t, err := template(r.Name, r.Life)
	if err != nil {
		return nil, err
	}
	if t.NotAfter.After(p.Cert.NotAfter) {
		t.NotAfter = p.Cert.NotAfter
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	if r.Server {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if r.Client {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	for _, h := range r.Hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return create(t, p.Cert, key, p.Key)
}

func template(name string, life time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-skew), NotAfter: now.Add(life)}, nil
}

func create(t, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) (*Pair, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	return &Pair{Cert: c, Key: key}, err
}

// TLS returns the pair for a [tls.Config].
func (p *Pair) TLS() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{p.Cert.Raw}, PrivateKey: p.Key, Leaf: p.Cert}
}

// Write writes the certificate and its key as PEM, the key with mode 0600. It
// replaces what stands there.
func (p *Pair) Write(cert, key string) error {
	der, err := x509.MarshalPKCS8PrivateKey(p.Key)
	if err != nil {
		return err
	}
	return errors.Join(
		write(key, "PRIVATE KEY", der, 0o600), // first: a certificate without its key is of no use
		write(cert, "CERTIFICATE", p.Cert.Raw, 0o644),
	)
}

// write replaces a file as a whole, so that a reader never sees half of it.
func write(file, kind string, der []byte, mode os.FileMode) error {
	next := file + ".new"
	if err := os.WriteFile(next, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		return err
	}
	return os.Rename(next, file)
}

// Read reads what Write wrote.
func Read(cert, key string) (*Pair, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	k, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: is not an ECDSA key", key)
	}
	return &Pair{Cert: pair.Leaf, Key: k}, nil
}

// ReadCert reads the first certificate of a PEM file.
func ReadCert(file string) (*x509.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s: holds no certificate in PEM", file)
	}
	return x509.ParseCertificate(block.Bytes)
}
