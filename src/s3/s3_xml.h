/* The XML that S3 answers with, and no more of XML than that: elements, text, the five named entities and numeric ones,
 * and an XML declaration. Attributes are passed over (xmlns). A document type, a processing instruction, CDATA, a
 * comment or anything malformed is an error: no server here sends it, and what is not read cannot surprise. Pure, no
 * I/O.
 *
 * Extensible Markup Language (XML) 1.0, 5th edition, https://www.w3.org/TR/xml/.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define S3_XML_DEPTH_MAXIMUM 16
#define S3_XML_PATH_MAXIMUM 256 /* bytes of "ListBucketResult/Contents/Key" */

/* Called as each element ends, in the document's order, with its path from the root on ("ListBucketResult/Contents",
 * namespace prefixes cut off) and its text: "" when it has elements in it. The text is UTF-8 without NUL. What it
 * returns below 0 ends the reading. */
typedef int s3_xml_on_element(void *context, const char *path, const char *text, struct error **ret_error);

/* MODEL_REGISTRY error "… is not the XML of an S3 server" with the byte where it went wrong. */
int s3_xml_read(const char *bytes, size_t size, s3_xml_on_element *on_element, void *context, struct error **ret_error);
/* Text as it stands in an element, '&', '<', '>' and quotes as entities. Caller frees. */
char *s3_xml_escape(const char *text);
