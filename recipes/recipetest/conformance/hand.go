package conformance

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// byHand starts the program as somebody does who does not know what it is.
func (p *plugged) byHand(ctx context.Context) error {
	cmd := p.command(ctx)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	switch exit, exited := errors.AsType[*exec.ExitError](err); {
	case ctx.Err() != nil:
		return fmt.Errorf("it does not end by itself: %w", ctx.Err())
	case err == nil:
		return errors.New("it ends with code 0, as if it had done something")
	case !exited:
		return err
	case exit.ExitCode() < 0:
		return fmt.Errorf("it dies: %w", exit)
	case !strings.Contains(strings.ToLower(said.String()), "plugin"):
		return fmt.Errorf("it does not say that it is a plugin, only %.300q", said.String())
	}
	return nil
}

// handshake is how a host tells a process that it may begin, with a version of the
// protocol that there is not.
func handshake() ([]string, error) {
	cert, key, err := pair()
	if err != nil {
		return nil, err
	}
	return []string{
		"CONCLAVE_PLUGIN=recipe", "PLUGIN_PROTOCOL_VERSIONS=" + nobodysVersion, "PLUGIN_MIN_PORT=0", "PLUGIN_MAX_PORT=0",
		"CONCLAVE_PLUGIN_CERT=" + cert, "CONCLAVE_PLUGIN_KEY=" + key, "PLUGIN_CLIENT_CERT=" + cert,
	}, nil
}

// nobodysVersion is a version of the protocol that no plugin speaks.
const nobodysVersion = "9999"

// protocol reads what the program answers to a host that speaks another protocol:
// the version that it does speak, or an end with a text.
func (p *plugged) protocol(ctx context.Context) (err error) {
	env, err := handshake()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "conf-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, cancel := context.WithCancel(ctx)
	cmd := p.command(ctx)
	cmd.Env = append(cmd.Env, append(env, "PLUGIN_UNIX_SOCKET_DIR="+dir)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	stdin, err := cmd.StdinPipe()
	if err != nil {
		cancel()
		return err
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return err
	}
	line, readErr := bufio.NewReader(out).ReadString('\n')
	cancel()
	_ = cmd.Wait()    // it was killed, or says in its own words why it ended
	_ = stdin.Close() // its reader is gone
	if readErr != nil {
		if said.Len() == 0 {
			return fmt.Errorf("asked for version %s it ends without a word", nobodysVersion)
		}
		return nil
	}
	parts := strings.Split(line, "|")
	if len(parts) < 5 {
		return fmt.Errorf("the first line that it prints is %q, which is no handshake", line)
	}
	if version, bad := strconv.Atoi(parts[1]); bad != nil || parts[1] == nobodysVersion {
		return errors.Join(bad, fmt.Errorf("asked for version %s of the protocol, which nobody speaks, it answers with %d", nobodysVersion, version))
	}
	return nil
}

// pair makes a certificate that signs itself, and its key.
func pair() (cert, key string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return "", "", err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", err
	}
	block := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return block("CERTIFICATE", der), block("PRIVATE KEY", secret), nil
}
