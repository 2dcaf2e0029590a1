package host

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"certbook/engine"
)

// ErrNoOpenSSL says that a machine lacks openssl, without which a private key
// would have to leave it.
var ErrNoOpenSSL = errors.New("openssl is not installed on the host, and private keys are not read from it; install the package openssl")

// keysScript prints, for each argument that holds a private key, its number
// and the public key as PEM, in any order. The private key passes through a pipe
// only. A file that is too large to be one is passed over: awk would take its
// time. openssl takes one key for each start, so four are started at once, without
// its configuration, which takes a third of that time; the pipe to cat keeps the
// lines of each together.
const keysScript = `
command -v openssl >/dev/null 2>&1 || { echo none; exit 0; }
prog=$1 most=$2
shift 2
OPENSSL_CONF=/dev/null
export OPENSSL_CONF
nl='
'
IFS=$nl
set -f
n=0 numbers= files=
for f do
	n=$((n + 1))
	[ -f "$f" ] && [ -r "$f" ] || continue
	numbers=$numbers$n$nl files=$files$f$nl
done
[ -n "$files" ] || exit 0
sizes=$(stat -L -c %s -- $files) || { echo "files changed while they were read" >&2; exit 1; }
pems=$nl$(grep -l -- '-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----' $files)$nl
public() {
	case $pems in
	*"$nl$2$nl"*) key=$(openssl pkey -in "$2" -passin pass: -pubout 2>/dev/null) ;;
	*) key=$(LC_ALL=C awk "$prog" "$2" | base64 -d 2>/dev/null | openssl pkey -passin pass: -pubout 2>/dev/null) ;;
	esac && printf '%s\n%s\n' "$1" "$key"
}
{
	set -- $sizes
	for f in $files; do
		n=${numbers%%"$nl"*} numbers=${numbers#*"$nl"} size=$1
		shift
		[ "$size" -le "$most" ] || continue
		public "$n" "$f" &
		started=$((${started:-0} + 1))
		[ $((started % 4)) != 0 ] || wait
	done
	wait
} | cat
`

// keyDataAWK prints the value of the first client-key-data of a kubeconfig, in
// block, quoted, flow or JSON style.
const keyDataAWK = `
more {
	if ($0 !~ /^[ \t]*[A-Za-z0-9+\/]+=*[ \t\r]*$/) exit
	gsub(/[ \t\r]/, ""); print; next
}
match($0, /client-key-data["\047]?[ \t]*:[ \t]*/) {
	s = substr($0, RSTART + RLENGTH)
	if (s ~ /^[|>]?[-+0-9]*[ \t\r]*$/) { more = 1; next }
	sub(/^["\047]/, "", s)
	match(s, /^[A-Za-z0-9+\/]+=*/)
	print substr(s, 1, RLENGTH)
	exit
}
`

// PublicKeys returns the public keys of private keys that stay where they are.
// With several users in a kubeconfig it is the first one's.
func (h *Host) PublicKeys(ctx context.Context, paths ...string) (map[string][]byte, error) {
	for _, p := range paths {
		if err := checkPath(p); err != nil {
			return nil, fmt.Errorf("public keys: %w", err)
		}
	}
	if len(paths) == 0 {
		return map[string][]byte{}, nil
	}
	if h.direct {
		return h.localKeys(paths), nil
	}
	args := []string{keyDataAWK, strconv.Itoa(engine.MaxFileSize)}
	for _, p := range paths {
		args = append(args, h.file(p))
	}
	out, err := h.askScript(ctx, keysScript, engine.MaxOutput, args...)
	if err != nil {
		return nil, fmt.Errorf("public keys: %w", err)
	}
	if string(out) == "none\n" {
		return nil, fmt.Errorf("public keys: %w", ErrNoOpenSSL)
	}
	return parseKeys(out, paths)
}

// parseKeys reads what keysScript prints.
func parseKeys(out []byte, paths []string) (map[string][]byte, error) {
	keys := make(map[string][]byte)
	for len(bytes.TrimSpace(out)) > 0 {
		line, rest, _ := bytes.Cut(out, []byte("\n"))
		n, err := strconv.Atoi(string(line))
		if err != nil || n < 1 || n > len(paths) {
			return nil, fmt.Errorf("public keys: unexpected answer %.80q", line)
		}
		block, after := pem.Decode(rest)
		if block == nil || block.Type != "PUBLIC KEY" {
			return nil, fmt.Errorf("public keys: %s: openssl printed no public key", paths[n-1])
		}
		keys[paths[n-1]] = block.Bytes
		out = after
	}
	return keys, nil
}

// localKeys needs no openssl and reads the keys in this process.
func (h *Host) localKeys(paths []string) map[string][]byte {
	keys := make(map[string][]byte)
	for _, p := range paths {
		f, err := os.OpenFile(h.file(p), os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not block
		if err != nil {
			continue
		}
		data, err := regular(f)
		f.Close()
		if err != nil {
			continue
		}
		if pub := PublicKey(data); pub != nil {
			keys[p] = pub
		}
	}
	return keys
}

func regular(f *os.File) ([]byte, error) {
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() || fi.Size() > engine.MaxFileSize {
		return nil, fmt.Errorf("%s is not a regular file of at most %d bytes", f.Name(), engine.MaxFileSize)
	}
	return io.ReadAll(io.LimitReader(f, engine.MaxFileSize))
}

var (
	keyData  = regexp.MustCompile(`client-key-data["']?[ \t]*:[ \t]*(.*)`)
	blockTop = regexp.MustCompile(`^[|>]?[-+0-9]*[ \t\r]*$`)
	base64At = regexp.MustCompile(`^["']?([A-Za-z0-9+/]+=*)`)
	onlyData = regexp.MustCompile(`^[ \t]*([A-Za-z0-9+/]+=*)[ \t\r]*$`)
)

// PublicKey returns the public key that belongs to the first private key in
// data, a PEM file or a kubeconfig, as DER-encoded PKIX; nil when there is none.
func PublicKey(data []byte) []byte {
	if !keyBegin.Match(data) {
		b, err := base64.StdEncoding.DecodeString(clientKeyData(string(data)))
		if err != nil {
			return nil
		}
		data = b
	}
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			return nil
		}
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		key, ok := privateKey(block.Bytes).(crypto.Signer)
		if !ok {
			return nil
		}
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			return nil
		}
		return der
	}
}

// clientKeyData does what keyDataAWK does.
func clientKeyData(text string) string {
	out, more := "", false
	for line := range strings.SplitSeq(text, "\n") {
		if more {
			m := onlyData.FindStringSubmatch(line)
			if m == nil {
				break
			}
			out += m[1]
			continue
		}
		m := keyData.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if blockTop.MatchString(m[1]) {
			more = true
			continue
		}
		if b := base64At.FindStringSubmatch(m[1]); b != nil {
			return b[1]
		}
		return ""
	}
	return out
}

func privateKey(der []byte) any {
	if k, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return k
	}
	if k, err := x509.ParseECPrivateKey(der); err == nil {
		return k
	}
	if k, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return k
	}
	return nil
}
