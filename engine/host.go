package engine

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// Probe is the read-only view of a machine. It is all that an action's Check
// is given, and all that a plan uses. Every method is one round trip.
//
// Paths are those of the machine as its processes see them. For a host with a
// root directory other than "/" the implementation adds the root; Path does
// the same for a path that must appear in a command's arguments.
type Probe interface {
	// Path returns where path lies on the machine: path itself, or, for a host
	// with a root directory of its own, the place below it.
	Path(path string) string

	// Now returns the host's clock, which judges expiry on that host.
	Now(ctx context.Context) (time.Time, error)

	// ReadFiles returns every file that matches one of the glob patterns, in
	// the order of the patterns and by name within one, each path once. A
	// pattern without a match adds nothing. What cannot be read is a File with
	// Err set, not an error. Data never holds a secret: PEM private keys are
	// left out and the values of client-key-data, token, password and the like
	// are replaced by REDACTED on the host, before anything is sent.
	ReadFiles(ctx context.Context, patterns ...string) ([]File, error)

	// PublicKeys returns for each path that holds a private key (a PEM file, or
	// a kubeconfig with client-key-data) the public key that belongs to it, as
	// DER-encoded PKIX SubjectPublicKeyInfo. The private key stays on the host.
	// A path without a readable private key is absent from the result.
	PublicKeys(ctx context.Context, paths ...string) (map[string][]byte, error)

	// Query runs a command that changes nothing. It behaves as Host.Exec.
	Query(ctx context.Context, c Command) (Output, error)

	// Handshake connects from the host to address (host:port), starts TLS and
	// returns the certificate chain that was served there, leaf first, DER.
	// The chain is not verified; a server that then refuses the handshake
	// because it wants a client certificate has served its own all the same.
	Handshake(ctx context.Context, address string) ([][]byte, error)

	// Get fetches an http or https URL from the host without verifying the
	// server's certificate. A response of any status is not an error.
	Get(ctx context.Context, url string) (Response, error)
}

// Host is a machine that may be changed.
type Host interface {
	Probe
	Locker

	// Exec runs a command and waits for it. A command that exits with another
	// status than 0 is an *ExitError; its Output is returned as well. When ctx
	// ends first, the command is killed as far as the transport can do that.
	Exec(ctx context.Context, c Command) (Output, error)

	// ReadSecret returns the whole content of one file, private keys included.
	// Only a step that was asked to copy a secret may call it; the content must
	// not reach an event.
	ReadSecret(ctx context.Context, path string) ([]byte, error)

	// WriteFile puts data in place of the file at path, atomically: it is
	// written aside with an unpredictable name, synced, given owner and mode,
	// and renamed. A symbolic link at path is followed. Missing parent
	// directories are an error.
	WriteFile(ctx context.Context, path string, data []byte, opt FileOptions) error

	// Install is WriteFile with the content of src, a file on the same host,
	// which stays where it is.
	Install(ctx context.Context, src, dst string, opt FileOptions) error

	// InstallAll is Install of several files: all are prepared, then renamed one
	// right after the other, so that a key and its certificate differ for no
	// longer than two renames take. When it fails, some may be in place.
	InstallAll(ctx context.Context, files []Copy, opt FileOptions) error

	// Close ends the connection.
	Close() error
}

// Copy is a file of a host and where its content goes.
type Copy struct{ Src, Dst string }

// File is one file of a host, without its secrets.
type File struct {
	Path    string      // as it was found by the pattern
	Target  string      // the real path, when a symbolic link leads elsewhere; else ""
	Mode    fs.FileMode // permission bits
	UID     int
	GID     int
	Size    int64 // bytes on disk
	ModTime time.Time
	Data    []byte // content without private keys; nil when Err is set
	Err     string // why the content could not be read, "" when it could
	Pending bool   // in a plan: an earlier step would write this file
}

// MaxFileSize is the size in bytes above which ReadFiles does not send a
// file's content: File.Err says that it is too large.
const MaxFileSize = 1 << 20

// MaxOutput is the number of bytes kept of each output stream of a command; a
// command that prints more fails.
const MaxOutput = 8 << 20

// FileOptions say what a written file looks like. The zero value keeps mode,
// owner and security label of the file that is replaced; a new file is 0600,
// owned by the user who writes, with its directory's default label.
type FileOptions struct {
	Mode  fs.FileMode // 0 keeps
	Owner string      // user[:group], names or numbers; "" keeps
	Save  string      // a directory on the host that receives the file that is replaced, under its full path below it; "" does not save
}

// Command is one program with its arguments. It is never a shell string.
type Command struct {
	Argv   []string
	Env    []string // additional variables, NAME=value; not for secrets
	Stdin  []byte   // never recorded
	Stdout string   // a path on the host that receives standard output, new or truncated, 0600; "" returns it in Output
	Mask   []string // arguments and output parts that must not be recorded
}

// String returns the command as a person would type it, secrets masked.
func (c Command) String() string {
	words := make([]string, len(c.Argv))
	for i, a := range c.Argv {
		for _, m := range c.Mask {
			if m != "" {
				a = strings.ReplaceAll(a, m, "***")
			}
		}
		if a == "" || strings.ContainsAny(a, " \t\n'\"\\$`*?[]{}()<>|&;~#!") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words[i] = a
	}
	return strings.Join(words, " ")
}

// Output is what a command printed and its exit status.
type Output struct {
	Stdout []byte
	Stderr []byte
	Code   int // exit status; 128+n when signal n ended it; -1 when not known
}

// ExitError says that a command ran and exited with another status than 0.
type ExitError struct {
	Command string // masked
	Code    int
	Stderr  string // the last lines of standard error, or of standard output when that is empty
}

func (e *ExitError) Error() string {
	s := fmt.Sprintf("%s: exit status %d", e.Command, e.Code)
	if e.Stderr != "" {
		s += ": " + e.Stderr
	}
	return s
}

// MaxBody is how many bytes of an answer's body Get returns. The metrics of a
// component have hundreds of KiB.
const MaxBody = 1 << 20

// Response is the answer to Probe.Get.
type Response struct {
	Status int    // HTTP status code
	Body   []byte // at most MaxBody bytes
}
