package split

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"

	"google.golang.org/grpc/credentials"
)

const (
	protoHTTP2 = "h2"
	protoHTTP1 = "http/1.1"
)

// serverTLS returns a configuration that agrees on HTTP/2 or HTTP/1.1, and that
// tells the conn below the handshake what its client offered.
func serverTLS(base *tls.Config) *tls.Config {
	cfg := base.Clone()
	cfg.NextProtos = []string{protoHTTP2, protoHTTP1}
	next := base.GetConfigForClient
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if c, ok := hello.Conn.(*conn); ok {
			// None at all is HTTP/1.1, as it was before there was a choice.
			c.offersHTTP1 = len(hello.SupportedProtos) == 0 || slices.Contains(hello.SupportedProtos, protoHTTP1)
		}
		if next == nil {
			return nil, nil
		}
		chosen, err := next(hello)
		if chosen == nil || err != nil {
			return nil, err
		}
		chosen = chosen.Clone()
		chosen.NextProtos = cfg.NextProtos
		return chosen, nil
	}
	return cfg
}

// handshake decides by the protocols that the client offered. The served
// connection is the *tls.Conn itself: net/http looks for that type.
func (s *Splitter) handshake(c *conn) (*side, net.Conn) {
	t := tls.Server(c, s.tls)
	if err := t.Handshake(); err != nil { //nolint:noctx // the connection has a deadline, and Close closes it
		s.options.Log.Debug("tls handshake failed", "peer", c.RemoteAddr().String(), "error", err)
		return nil, nil
	}
	if s.options.HTTPOnly || c.offersHTTP1 {
		return s.http, t
	}
	return s.grpc, t
}

// Credentials returns what gRPC's server needs with a [Splitter]: the handshake
// is done, and calls see what came of it as [credentials.TLSInfo], or insecure
// credentials if the listener is plaintext.
func Credentials() credentials.TransportCredentials { return passThrough{} }

type passThrough struct{}

// ServerHandshake implements [credentials.TransportCredentials].
func (passThrough) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	t, ok := c.(*tls.Conn)
	if !ok {
		return c, plainInfo{credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}}, nil
	}
	return c, credentials.TLSInfo{
		State:          t.ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}, nil
}

// ClientHandshake implements [credentials.TransportCredentials]: there is no
// client's side of a splitter.
func (passThrough) ClientHandshake(_ context.Context, authority string, _ net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, fmt.Errorf("dial %s: these credentials are a server's", authority)
}

// Info implements [credentials.TransportCredentials].
func (passThrough) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements [credentials.TransportCredentials].
func (p passThrough) Clone() credentials.TransportCredentials { return p }

// OverrideServerName implements [credentials.TransportCredentials].
func (passThrough) OverrideServerName(string) error { return nil }

// plainInfo is what a call on a plaintext listener sees.
type plainInfo struct{ credentials.CommonAuthInfo }

// AuthType implements [credentials.AuthInfo].
func (plainInfo) AuthType() string { return "insecure" }
