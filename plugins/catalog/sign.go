package catalog

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/crypto/blake2b"
)

// minisign's algorithms: Ed25519 over the file, and over its BLAKE2b-512.
const (
	algorithm       = "Ed"
	hashedAlgorithm = "ED"
	checksum        = "B2"
)

const (
	idSize        = 8
	publicSize    = 2 + idSize + ed25519.PublicKeySize
	signatureSize = 2 + idSize + ed25519.SignatureSize
	// A secret key's file: algorithms of signature, key derivation and checksum, the
	// derivation's salt and two limits, then what it may encrypt: id, key, checksum.
	secretHead = 2 + 2 + 2 + 32 + 8 + 8
	secretSize = secretHead + idSize + ed25519.PrivateKeySize + blake2b.Size256
)

// A PublicKey verifies signatures of manifests. It is one of minisign's.
type PublicKey struct {
	id  [idSize]byte
	key ed25519.PublicKey
}

// ID returns the key's id in hexadecimal, as minisign prints it.
func (k PublicKey) ID() string { return fmt.Sprintf("%016X", binary.LittleEndian.Uint64(k.id[:])) }

// String returns the key as minisign prints it, and ParsePublicKey reads it.
func (k PublicKey) String() string {
	return base64.StdEncoding.EncodeToString(append([]byte(algorithm+string(k.id[:])), k.key...))
}

// File returns the content of a file with the key.
func (k PublicKey) File() []byte {
	return fmt.Appendf(nil, "untrusted comment: minisign public key %s\n%s\n", k.ID(), k)
}

// ParsePublicKey reads a public key: its line, or the content of its file.
func ParsePublicKey(text string) (PublicKey, error) {
	b, err := base64.StdEncoding.DecodeString(lastLine(text))
	if err != nil || len(b) != publicSize || string(b[:2]) != algorithm {
		return PublicKey{}, errors.New("is not a public key of minisign's: 56 characters that begin with RW")
	}
	return PublicKey{[idSize]byte(b[2 : 2+idSize]), b[2+idSize:]}, nil
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// verify checks a signature in minisign's format over message. Every error is
// [ErrSignature].
func verify(message, signature []byte, trusted []PublicKey) (PublicKey, error) {
	raw, comment, global, err := parseSignature(signature)
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	id := [idSize]byte(raw[2 : 2+idSize])
	for _, k := range trusted {
		if k.id != id {
			continue
		}
		if string(raw[:2]) == hashedAlgorithm {
			sum := blake2b.Sum512(message)
			message = sum[:]
		}
		own := raw[2+idSize:]
		if !ed25519.Verify(k.key, message, own) || !ed25519.Verify(k.key, append(bytes.Clone(own), comment...), global) {
			return PublicKey{}, fmt.Errorf("%w: key %s did not sign this manifest: one of the two was changed", ErrSignature, k.ID())
		}
		return k, nil
	}
	return PublicKey{}, fmt.Errorf("%w: it is of the key %s, which is not among plugins.keys", ErrSignature, PublicKey{id: id}.ID())
}

// parseSignature takes apart the four lines of a signature.
func parseSignature(b []byte) (raw []byte, comment string, global []byte, err error) {
	wrong := errors.New("it is not in minisign's format")
	lines := strings.Split(strings.TrimRight(string(b), "\r\n"), "\n")
	if len(lines) != 4 {
		return nil, "", nil, wrong
	}
	for i := range lines {
		lines[i] = strings.TrimSuffix(lines[i], "\r")
	}
	comment, ok := strings.CutPrefix(lines[2], "trusted comment: ")
	raw, err1 := base64.StdEncoding.DecodeString(lines[1])
	global, err2 := base64.StdEncoding.DecodeString(lines[3])
	if !ok || err1 != nil || err2 != nil || len(raw) != signatureSize || len(global) != ed25519.SignatureSize ||
		string(raw[:2]) != algorithm && string(raw[:2]) != hashedAlgorithm {
		return nil, "", nil, wrong
	}
	return raw, comment, global, nil
}

// A SecretKey signs manifests.
type SecretKey struct {
	id  [idSize]byte
	key ed25519.PrivateKey
}

// NewSecretKey makes a key.
func NewSecretKey() (SecretKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return SecretKey{}, err
	}
	k := SecretKey{key: key}
	_, err = rand.Read(k.id[:])
	return k, err
}

// Public returns the key that verifies what k signs.
func (k SecretKey) Public() PublicKey {
	return PublicKey{k.id, k.key.Public().(ed25519.PublicKey)} //nolint:forcetypeassert // Public promises it
}

// Sign returns a signature of message in minisign's format.
func (k SecretKey) Sign(message []byte, comment string) []byte {
	sum := blake2b.Sum512(message)
	own := ed25519.Sign(k.key, sum[:])
	global := ed25519.Sign(k.key, append(bytes.Clone(own), comment...))
	return fmt.Appendf(nil, "untrusted comment: signature of a Conclave plugin\n%s\ntrusted comment: %s\n%s\n",
		base64.StdEncoding.EncodeToString(append([]byte(hashedAlgorithm+string(k.id[:])), own...)), comment,
		base64.StdEncoding.EncodeToString(global))
}

// File returns the content of a file with the key, as minisign -G -W writes it:
// nothing but the file's mode protects it.
func (k SecretKey) File() []byte {
	body := append([]byte(algorithm), make([]byte, secretHead-2)...)
	copy(body[4:], checksum)
	body = append(append(body, k.id[:]...), k.key...)
	sum := k.sum()
	return fmt.Appendf(nil, "untrusted comment: minisign secret key, not encrypted\n%s\n", base64.StdEncoding.EncodeToString(append(body, sum[:]...)))
}

func (k SecretKey) sum() [blake2b.Size256]byte {
	return blake2b.Sum256(append([]byte(algorithm+string(k.id[:])), k.key...))
}

// ReadSecretKey reads the file of a secret key, minisign's or one of [SecretKey.File].
// One that a password protects is refused.
func ReadSecretKey(file string) (SecretKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return SecretKey{}, err
	}
	b, err := base64.StdEncoding.DecodeString(lastLine(string(text)))
	if err != nil || len(b) != secretSize || string(b[:2]) != algorithm || string(b[4:6]) != checksum {
		return SecretKey{}, fmt.Errorf("%s is not a secret key of minisign's", file)
	}
	if !bytes.Equal(b[2:4], []byte{0, 0}) {
		return SecretKey{}, fmt.Errorf("%s is encrypted: sign with minisign itself, or make a key without a password: minisign -G -W", file)
	}
	body := b[secretHead:]
	k := SecretKey{[idSize]byte(body), bytes.Clone(body[idSize : idSize+ed25519.PrivateKeySize])}
	if sum := k.sum(); !bytes.Equal(sum[:], body[idSize+ed25519.PrivateKeySize:]) {
		return SecretKey{}, fmt.Errorf("%s is damaged: its checksum is another", file)
	}
	return k, nil
}
