package schema

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unicode/utf8"
)

// MaxDocument is the size in bytes of the largest document that is read.
const MaxDocument = 4 << 20

// Source is one document's text and where it came from.
type Source struct {
	Name   string // file name as given, or a name in angle brackets
	Data   []byte
	Flag   bool // it is the value of a flag, where lines do not matter
	Secret bool // its text is never shown: mistakes in it have a place, but no excerpt
}

// shown returns a part of the document as a message may have it.
func (s *Source) shown(text string) string {
	if s != nil && s.Secret {
		return "***"
	}
	return text
}

// ReadSource reads the document in the file called name.
func ReadSource(name string) (*Source, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %v", name, cause(err))
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s: is a directory; name the YAML file in it", name)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is not a regular file", name)
	}
	if info.Size() > MaxDocument {
		return nil, fmt.Errorf("%s: has %d bytes; a document may have %d", name, info.Size(), MaxDocument)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %v", name, cause(err))
	}
	return &Source{Name: name, Data: data}, nil
}

// cause takes the path out of a file error; the message begins with it.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// SHA256 returns the hash of the document's bytes in hexadecimal.
func (s *Source) SHA256() string {
	sum := sha256.Sum256(s.Data)
	return hex.EncodeToString(sum[:])
}

// Line returns line n, counted from 1, without its end; "" beyond the text.
func (s *Source) Line(n int) string {
	line, _, _ := bytes.Cut(s.from(n, 1), []byte("\n"))
	return string(bytes.TrimRight(line, "\r"))
}

// from returns the text that begins at a line and column, nil beyond it.
func (s *Source) from(line, column int) []byte {
	if line < 1 || column < 1 {
		return nil
	}
	data := s.Data
	for ; line > 1; line-- {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			return nil
		}
		data = data[end+1:]
	}
	for ; column > 1 && len(data) > 0; column-- {
		_, n := utf8.DecodeRune(data)
		data = data[n:]
	}
	return data
}

// Pos is a place in a document. The zero Pos is no place.
type Pos struct {
	Source *Source
	Line   int // from 1
	Column int // from 1, in characters
}

// String returns file:line:column.
func (p Pos) String() string {
	if p.Source == nil {
		return "-"
	}
	if p.Source.Flag {
		return p.Source.Name
	}
	return fmt.Sprintf("%s:%d:%d", p.Source.Name, p.Line, p.Column)
}

// Move returns the place n characters further on the same line.
func (p Pos) Move(n int) Pos {
	p.Column += n
	return p
}
