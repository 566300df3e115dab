// Reads notes.json with two libraries that are not ours: the owner's signature by golang.org/x/mod/sumdb/note, the
// witness's by github.com/transparency-dev/formats/note. Run by hand, in a folder of its own:
//
//	go mod init notes && go get golang.org/x/mod/sumdb/note github.com/transparency-dev/formats/note
//	go run notes.go notes.json
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strings"

	f_note "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

type vector struct {
	Owner, Witness, Text, Note string
	Timestamp                  int64
}

func main() {
	data, err := os.ReadFile(os.Args[1])
	check(err)
	var v vector
	check(json.Unmarshal(data, &v))

	owner, err := note.NewVerifier(v.Owner)
	check(err)
	witness, err := f_note.NewVerifierForCosignatureV1(v.Witness)
	check(err)

	opened, err := note.Open([]byte(v.Note), note.VerifierList(owner, witness))
	check(err)
	if opened.Text != v.Text || len(opened.Sigs) != 2 || len(opened.UnverifiedSigs) != 0 {
		log.Fatalf("not two signatures that hold: %d", len(opened.Sigs))
	}
	stamp, err := f_note.CoSigV1Timestamp(opened.Sigs[1])
	check(err)
	if stamp.Unix() != v.Timestamp {
		log.Fatalf("the time is %d", stamp.Unix())
	}

	// The same check has to fail for an altered text: else it would have shown nothing.
	altered := strings.Replace(v.Note, "\n3\n", "\n4\n", 1)
	if _, err := note.Open([]byte(altered), note.VerifierList(owner)); err == nil {
		log.Fatal("the owner's signature holds for another text")
	}
	if _, err := note.Open([]byte(altered), note.VerifierList(witness)); err == nil {
		log.Fatal("the witness's signature holds for another text")
	}
	fmt.Println("Both signatures hold, and neither holds for an altered text.")
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
