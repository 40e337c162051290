"""Text and structure of document files: Markdown, HTML, plain text, PDF, DOCX, PPTX, XLSX, CSV and e-mail."""
