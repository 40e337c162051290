// Short names side by side, such as the labels of a model.

export function TagList({ tags, more }: { tags: string[]; more?: string | undefined }) {
  return (
    <ul className="tags">
      {tags.map((tag) => (
        <li key={tag}>{tag}</li>
      ))}
      {more && <li className="small">{more}</li>}
    </ul>
  );
}
